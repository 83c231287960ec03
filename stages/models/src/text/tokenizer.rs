//! Prompts to ids, exactly as transformers' `CLIPTokenizer` and `T5TokenizerFast` do for the diffusers pipeline, and its
//! `BertTokenizer` for rewards.

use super::{added_token, spiece, wordpiece};
use crate::config::read_json;
use anyhow::{Context, Result, anyhow, ensure};
use opdflow_io::file;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tch::{Kind, Tensor};
use tokenizers::{Encoding, PostProcessor, TruncationDirection};

/// A tokenizer with what its folder says about padding and length.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pad: u32,
    max_length: Option<usize>,
}

impl Tokenizer {
    /// A CLIP byte-pair tokenizer: `tokenizer.json`, or `vocab.json` with `merges.txt` and the added tokens of
    /// `tokenizer_config.json`, which is how Stable Diffusion folders come.
    pub fn clip(folder: impl AsRef<Path>) -> Result<Tokenizer> {
        let folder = folder.as_ref();
        let settings = Settings::read(folder)?;
        let json = folder.join("tokenizer.json");
        let inner = if file::is_named(&json) { from_file(&json)? } else { from_bpe(folder, &settings)? };
        Tokenizer::new(inner, &settings, CLIP_END, folder)
    }

    /// A T5 unigram tokenizer: `tokenizer.json`, or `spiece.model` alone.
    pub fn t5(folder: impl AsRef<Path>) -> Result<Tokenizer> {
        let folder = folder.as_ref();
        let (json, pieces) = (folder.join("tokenizer.json"), folder.join("spiece.model"));
        let settings = Settings::read(folder)?;
        let inner = if file::is_named(&json) {
            from_file(&json)?
        } else {
            ensure!(file::is_named(&pieces), "{}: neither tokenizer.json nor spiece.model here", folder.display());
            spiece::read(&pieces, settings.extra_ids())?
        };
        Tokenizer::new(inner, &settings, "<pad>", folder)
    }

    /// A BERT WordPiece tokenizer: `tokenizer.json`, or `vocab.txt` alone.
    pub fn bert(folder: impl AsRef<Path>) -> Result<Tokenizer> {
        let folder = folder.as_ref();
        let (json, words) = (folder.join("tokenizer.json"), folder.join("vocab.txt"));
        let settings = Settings::read(folder)?;
        let inner = if file::is_named(&json) {
            from_file(&json)?
        } else {
            ensure!(file::is_named(&words), "{}: neither tokenizer.json nor vocab.txt here", folder.display());
            wordpiece::read(&words, settings.lower_case())?
        };
        Tokenizer::new(inner, &settings, "[PAD]", folder)
    }

    fn new(mut inner: tokenizers::Tokenizer, settings: &Settings, pad: &str, folder: &Path) -> Result<Tokenizer> {
        // What the caller asks for rules, not what the file was saved with.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| anyhow!("{}: {e}", folder.display()))?;
        let pad = settings.token("pad_token").unwrap_or_else(|| pad.to_string());
        let id = inner.token_to_id(&pad);
        let pad =
            id.with_context(|| format!("{}: the padding token `{pad}` is not in the vocabulary", folder.display()))?;
        Ok(Tokenizer { inner, pad, max_length: settings.max_length() })
    }

    /// `model_max_length` of the folder, where it sets one.
    pub fn max_length(&self) -> Option<usize> {
        self.max_length
    }

    /// The id that fills a row up.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// The ids of one prompt with its special tokens, cut to `length` but not filled up to it.
    pub fn encode(&self, prompt: &str, length: usize) -> Result<Vec<u32>> {
        let added = self.inner.get_post_processor().map_or(0, |p| p.added_tokens(false));
        ensure!(length >= added, "{length} tokens have no room for the {added} special tokens");
        let encode = || -> tokenizers::Result<Encoding> {
            let mut bare = self.inner.encode_fast(prompt, false)?;
            bare.truncate(length - added, 0, TruncationDirection::Right);
            self.inner.post_process(bare, None, true)
        };
        Ok(encode().map_err(|e| anyhow!("cannot tokenize {prompt:?}: {e}"))?.get_ids().to_vec())
    }

    /// `[B, length]` (Int64): each prompt cut and padded on the right to `length`.
    pub fn ids<S: AsRef<str>>(&self, prompts: &[S], length: usize) -> Result<Tensor> {
        let mut flat = Vec::with_capacity(prompts.len() * length);
        for prompt in prompts {
            let ids = self.encode(prompt.as_ref(), length)?;
            let padding = length - ids.len();
            flat.extend(ids.into_iter().map(i64::from));
            flat.extend(std::iter::repeat_n(self.pad as i64, padding));
        }
        if flat.is_empty() {
            return Ok(Tensor::zeros([prompts.len() as i64, length as i64], (Kind::Int64, tch::Device::Cpu)));
        }
        Ok(Tensor::from_slice(&flat).view([prompts.len() as i64, length as i64]))
    }
}

const CLIP_START: &str = "<|startoftext|>";
const CLIP_END: &str = "<|endoftext|>";

/// Lengths from here on mean "none": transformers writes 1e30 for a tokenizer without a limit.
const UNLIMITED: f64 = 1e9;

/// More sentinels than any vocabulary has; what a damaged file says must not fill the memory.
const MOST_SENTINELS: usize = 10_000;

/// `tokenizer_config.json` over `special_tokens_map.json`; either may be absent.
struct Settings {
    config: Value,
    map: Value,
}

impl Settings {
    fn read(folder: &Path) -> Result<Settings> {
        let read = |name: &str| {
            let path = folder.join(name);
            if file::is_named(&path) { read_json(&path) } else { Ok(Value::Null) }
        };
        Ok(Settings { config: read("tokenizer_config.json")?, map: read("special_tokens_map.json")? })
    }

    /// A named special token; it stands as a string or as an object with its content.
    fn token(&self, key: &str) -> Option<String> {
        let text = |v: &Value| v.as_str().or_else(|| v.get("content")?.as_str()).map(str::to_string);
        [&self.config, &self.map].iter().find_map(|v| v.get(key).and_then(text))
    }

    fn max_length(&self) -> Option<usize> {
        let n = self.config.get("model_max_length")?.as_f64()?;
        (1.0..UNLIMITED).contains(&n).then_some(n as usize)
    }

    /// Whether BERT's letters are lower-cased, which they are unless the folder says otherwise.
    fn lower_case(&self) -> bool {
        self.config.get("do_lower_case").and_then(Value::as_bool).unwrap_or(true)
    }

    /// The number of T5's sentinels, 100 unless the folder says otherwise.
    fn extra_ids(&self) -> usize {
        let listed = self.config.get("extra_ids").and_then(Value::as_u64);
        listed.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= MOST_SENTINELS).unwrap_or(100)
    }

    /// The tokens that are cut out of a prompt whole: those listed with their flags, then the named ones.
    fn added(&self, vocab: &HashMap<String, u32>) -> Vec<Value> {
        let mut added: BTreeMap<u32, Value> = BTreeMap::new();
        let flag = |t: &Value, key: &str| t.get(key).and_then(Value::as_bool).unwrap_or(false);
        for token in
            self.config.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flat_map(|m| m.values())
        {
            let content = token.get("content").and_then(Value::as_str);
            if let Some((content, id)) = content.and_then(|c| Some((c, *vocab.get(c)?))) {
                let flags = ["single_word", "lstrip", "rstrip", "normalized", "special"].map(|k| flag(token, k));
                added.insert(id, added_token(id, content, flags));
            }
        }
        for key in ["bos_token", "eos_token", "unk_token", "pad_token"] {
            let fallback = if key == "bos_token" { CLIP_START } else { CLIP_END };
            let content = self.token(key).unwrap_or_else(|| fallback.to_string());
            if let Some(&id) = vocab.get(&content) {
                added.entry(id).or_insert_with(|| added_token(id, &content, [false, false, false, false, true]));
            }
        }
        added.into_values().collect()
    }
}

fn from_file(path: &Path) -> Result<tokenizers::Tokenizer> {
    let bytes = file::read(path, file::DESCRIPTION).with_context(|| format!("cannot read {}", path.display()))?;
    tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| anyhow!("{} is not a readable tokenizer: {e}", path.display()))
}

/// What transformers builds from CLIP's two text files, as the description that the `tokenizers` crate reads.
fn from_bpe(folder: &Path, settings: &Settings) -> Result<tokenizers::Tokenizer> {
    let vocab: HashMap<String, u32> = read_json(&folder.join("vocab.json"))
        .with_context(|| format!("{}: neither tokenizer.json nor vocab.json can be read", folder.display()))?;
    let path = folder.join("merges.txt");
    let text = file::read_text(&path, file::DESCRIPTION).with_context(|| format!("cannot read {}", path.display()))?;
    let mut merges = Vec::new();
    for (n, line) in text.lines().enumerate() {
        if line.starts_with("#version") || line.is_empty() {
            continue;
        }
        let pair =
            line.split_once(' ').with_context(|| format!("{}:{}: not two symbols: {line:?}", path.display(), n + 1))?;
        merges.push(json!([pair.0, pair.1]));
    }
    let special = |key: &str, fallback: &str| -> Result<(String, u32)> {
        let token = settings.token(key).unwrap_or_else(|| fallback.to_string());
        let id = vocab.get(&token).copied();
        Ok((token.clone(), id.with_context(|| format!("{}: vocab.json lacks `{token}`", folder.display()))?))
    };
    let (start, end) = (special("bos_token", CLIP_START)?, special("eos_token", CLIP_END)?);
    let unknown = special("unk_token", CLIP_END)?;
    let words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let description = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": settings.added(&vocab),
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "post_processor": {"type": "RobertaProcessing", "sep": end, "cls": start, "trim_offsets": false, "add_prefix_space": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": unknown.0, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges},
    });
    let bytes = serde_json::to_vec(&description)?;
    tokenizers::Tokenizer::from_bytes(bytes)
        .map_err(|e| anyhow!("{}: vocab.json and merges.txt do not fit: {e}", folder.display()))
}
