//! T5's `spiece.model`, a SentencePiece file, as the tokenizer that transformers makes of it.
//!
//! The file is a protocol buffer (sentencepiece's `sentencepiece_model.proto`). Of it are read the pieces with their
//! scores, the kind of model, and the table of the normaliser. transformers leaves the file's other switches alone.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use opdflow_io::file;
use serde_json::json;
use std::path::Path;
use tokenizers::normalizers::Precompiled;

/// Field numbers of `ModelProto` and below.
const PIECES: u64 = 1;
const TRAINER: u64 = 2;
const NORMALIZER: u64 = 3;
const PIECE_TEXT: u64 = 1;
const PIECE_SCORE: u64 = 2;
const TRAINER_MODEL: u64 = 3;
const NORMALIZER_CHARSMAP: u64 = 2;

/// `model_type: UNIGRAM`, the default of the field too.
const UNIGRAM: u64 = 1;

/// One field's value.
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed(u32),
}

/// The fields of a message, in their order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().context("it ends inside a number")?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a number of more than 64 bits")
    }

    fn take(&mut self, n: u64) -> Result<&'a [u8]> {
        let cut = usize::try_from(n).ok().and_then(|n| self.0.split_at_checked(n));
        let (head, rest) = cut.context("it ends inside a field")?;
        self.0 = rest;
        Ok(head)
    }

    /// The next field's number and value; nothing at the end. Values of 8 bytes, which nothing here has, are skipped.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>> {
        while !self.0.is_empty() {
            let tag = self.varint()?;
            let value = match tag & 7 {
                0 => Value::Varint(self.varint()?),
                1 => {
                    self.take(8)?;
                    continue;
                }
                2 => {
                    let n = self.varint()?;
                    Value::Bytes(self.take(n)?)
                }
                5 => Value::Fixed(self.take(4)?.iter().rev().fold(0, |v, b| v << 8 | u32::from(*b))),
                other => bail!("a field of wire type {other}"),
            };
            return Ok(Some((tag >> 3, value)));
        }
        Ok(None)
    }
}

/// What of the file matters.
#[derive(Default)]
struct Model<'a> {
    pieces: Vec<(String, f32)>,
    charsmap: &'a [u8],
    kind: Option<u64>,
}

fn parse(bytes: &[u8]) -> Result<Model<'_>> {
    let (mut model, mut fields) = (Model::default(), Fields(bytes));
    while let Some((number, value)) = fields.next()? {
        let Value::Bytes(inner) = value else { continue };
        let mut inner = Fields(inner);
        match number {
            PIECES => {
                let (mut text, mut score) = (String::new(), 0.0);
                while let Some((number, value)) = inner.next()? {
                    match (number, value) {
                        (PIECE_TEXT, Value::Bytes(b)) => text = std::str::from_utf8(b)?.to_owned(),
                        (PIECE_SCORE, Value::Fixed(bits)) => score = f32::from_bits(bits),
                        _ => {}
                    }
                }
                model.pieces.push((text, score));
            }
            TRAINER => {
                while let Some((number, value)) = inner.next()? {
                    if let (TRAINER_MODEL, Value::Varint(kind)) = (number, value) {
                        model.kind = Some(kind);
                    }
                }
            }
            NORMALIZER => {
                while let Some((number, value)) = inner.next()? {
                    if let (NORMALIZER_CHARSMAP, Value::Bytes(map)) = (number, value) {
                        model.charsmap = map;
                    }
                }
            }
            _ => {}
        }
    }
    let kind = model.kind.unwrap_or(UNIGRAM);
    ensure!(kind == UNIGRAM, "its model type is {kind}, supported: {UNIGRAM} (unigram)");
    ensure!(model.pieces.len() > 2, "it holds {} pieces", model.pieces.len());
    Ok(model)
}

/// Reads `path`. The file is followed by `extra_ids` sentinels (`<extra_id_99>` down to 0), as in T5's vocabulary.
///
/// # Errors
/// It is not a SentencePiece file, or not a unigram model; the file is named.
pub(super) fn read(path: &Path, extra_ids: usize) -> Result<tokenizers::Tokenizer> {
    let bytes = file::read(path, file::DESCRIPTION).with_context(|| format!("cannot read {}", path.display()))?;
    let build = || -> Result<tokenizers::Tokenizer> {
        let model = parse(&bytes)?;
        let mut vocab: Vec<(String, f64)> = model.pieces.into_iter().map(|(p, s)| (p, f64::from(s))).collect();
        vocab.extend((0..extra_ids).rev().map(|i| (format!("<extra_id_{i}>"), 0.0)));
        let id = |token: &str| vocab.iter().position(|(t, _)| t == token);
        let end = id("</s>").context("it has no piece `</s>`")?;
        let special = ["<pad>", "</s>", "<unk>"].map(str::to_owned).into_iter();
        let added: Vec<_> = special
            .chain((0..extra_ids).map(|i| format!("<extra_id_{i}>")))
            .filter_map(|t| Some(super::added_token(id(&t)? as u32, &t, [false, false, false, false, true])))
            .collect();
        let metaspace =
            json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
        let description = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}},
                    {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                "special_tokens": {"</s>": {"id": "</s>", "ids": [end], "tokens": ["</s>"]}}},
            "decoder": metaspace,
            "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": false},
        });
        let made = tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&description)?);
        let mut tokenizer = made.map_err(|e| anyhow!("{e}"))?;
        if !model.charsmap.is_empty() {
            let map = Precompiled::from(model.charsmap).map_err(|e| anyhow!("the normaliser's table: {e}"))?;
            tokenizer.with_normalizer(Some(map)).map_err(|e| anyhow!("the normaliser's table: {e}"))?;
        }
        Ok(tokenizer)
    };
    build().with_context(|| format!("{} is not a readable SentencePiece model", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{parse, read};

    /// A message with three pieces, a score each, and a model type.
    fn file(kind: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (i, piece) in ["<pad>", "</s>", "<unk>", "\u{2581}a", "b"].iter().enumerate() {
            let mut inner = vec![0x0a, piece.len() as u8];
            inner.extend(piece.as_bytes());
            inner.push(0x15);
            inner.extend((-(i as f32)).to_le_bytes());
            bytes.extend([0x0a, inner.len() as u8]);
            bytes.extend(inner);
        }
        bytes.extend([0x12, 2, 0x18, kind]);
        bytes
    }

    #[test]
    fn pieces_and_scores() {
        let bytes = file(1);
        let model = parse(&bytes).unwrap();
        assert_eq!(model.pieces[3], ("\u{2581}a".to_owned(), -3.0));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spiece.model");
        std::fs::write(&path, &bytes).unwrap();
        let tokenizer = read(&path, 2).unwrap();
        assert_eq!(tokenizer.encode_fast("ab a <extra_id_1>", true).unwrap().get_ids(), [3, 4, 3, 5, 1]);
    }

    #[test]
    fn damaged_files_are_refused_or_read_and_never_panic() {
        let bytes = file(1);
        assert!(parse(&file(2)).err().unwrap().to_string().contains("model type is 2"));
        assert!(parse(b"").is_err());
        for cut in 0..bytes.len() {
            let _ = parse(&bytes[..cut]);
            let mut other = bytes.clone();
            other[cut] ^= 0xff;
            let _ = parse(&other);
        }
        assert!(parse(&bytes[..bytes.len() - 3]).is_err());
    }
}
