//! Prompts to what the transformer is conditioned on.

pub mod clip;
mod spiece;
pub mod t5;
pub mod tokenizer;
mod wordpiece;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tch::Tensor;

/// Fails when an id of `ids` (Int64) is not below `size`. A tokenizer may know more tokens than the encoder beside it;
/// looking one up there would abort the process.
pub fn in_vocabulary(ids: &Tensor, size: i64, which: &str) -> Result<()> {
    if ids.numel() > 0 {
        let max = ids.max().int64_value(&[]);
        ensure!(
            max < size,
            "the {which} tokenizer gives id {max}, the encoder knows {size} tokens: they do not belong together"
        );
    }
    Ok(())
}

/// An added token as the `tokenizers` crate reads it.
fn added_token(id: u32, content: &str, [single_word, lstrip, rstrip, normalized, special]: [bool; 5]) -> Value {
    json!({"id": id, "content": content, "single_word": single_word, "lstrip": lstrip, "rstrip": rstrip,
        "normalized": normalized, "special": special})
}
