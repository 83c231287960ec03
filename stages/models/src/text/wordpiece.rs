//! BERT's `vocab.txt` as the tokenizer that transformers makes of it.

use super::added_token;
use anyhow::{Context as _, Result, anyhow};
use opdflow_io::file;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The tokens that are cut out of a text whole.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// Longer words are unknown.
const LONGEST_WORD: usize = 100;

/// Reads `path`, one token a line, whose number is its id. `lower`: whether letters are lower-cased and lose their
/// accents.
pub(super) fn read(path: &Path, lower: bool) -> Result<tokenizers::Tokenizer> {
    let text = file::read_text(path, file::DESCRIPTION).with_context(|| format!("cannot read {}", path.display()))?;
    let vocab: Map<String, Value> =
        text.lines().zip(0..).map(|(token, id): (_, u32)| (token.into(), id.into())).collect();
    let id = |token: &str| -> Result<u32> {
        let id = vocab.get(token).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        id.with_context(|| format!("{} lacks the token `{token}`: it is not BERT's vocabulary", path.display()))
    };
    let special = SPECIAL.iter().map(|t| Ok(added_token(id(t)?, t, [false, false, false, false, true])));
    let description = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": special.collect::<Result<Vec<_>>>()?,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": lower},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", id("[SEP]")?], "cls": ["[CLS]", id("[CLS]")?]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": LONGEST_WORD, "vocab": vocab},
    });
    tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&description)?)
        .map_err(|e| anyhow!("{} is not a readable vocabulary: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use crate::text::tokenizer::Tokenizer;

    #[test]
    fn words_by_hand() {
        let dir = tempfile::tempdir().unwrap();
        let write = |tokens: &str| std::fs::write(dir.path().join("vocab.txt"), tokens.replace(' ', "\n")).unwrap();
        let error = || Tokenizer::bert(dir.path()).err().unwrap().to_string();
        assert!(error().contains("neither tokenizer.json nor vocab.txt here"), "{}", error());
        write("[PAD] [UNK] [CLS] a");
        assert!(error().contains("vocab.txt lacks the token `[SEP]`"), "{}", error());
        write("[PAD] [UNK] [CLS] [SEP] [MASK] a red circle ##s cafe !");
        let tokenizer = Tokenizer::bert(dir.path()).unwrap();
        assert_eq!(tokenizer.encode("A  red Circles, Caf\u{e9}!", 20).unwrap(), [2, 5, 6, 7, 8, 1, 9, 10, 3]);
        assert_eq!(tokenizer.encode("a red circle", 4).unwrap(), [2, 5, 6, 3]);
        assert_eq!(tokenizer.pad(), 0);
    }
}
