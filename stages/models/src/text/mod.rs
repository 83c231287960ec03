//! Prompts to what the transformer is conditioned on.

pub mod clip;
mod spiece;
pub mod t5;
pub mod tokenizer;
mod wordpiece;

use anyhow::{Result, ensure};
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
