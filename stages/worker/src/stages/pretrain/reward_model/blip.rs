//! ImageReward's network with weights that can be trained, and how it is written.

use super::pairs::Scores;
use super::towers::write_json;
use crate::runtime::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_kinds::stages::pretrain::reward_model::Network;
use opdflow_miniature::{Prompt, SIDE};
use opdflow_models::text::tokenizer::Tokenizer;
use opdflow_models::weights::{Weights, save_tensors};
use opdflow_reward_models::imagereward::{BertConfig, Blip, LENGTH, VitConfig};
use opdflow_reward_models::pixels::{Fit, Pixels};
use opdflow_rewards::Image;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Tokens of the longest prompt that training reads whole; padding behind them is not looked at.
const READ: usize = 16;

/// The network with its tokenizer.
pub struct Judge {
    network: Blip,
    weights: Weights,
    tokenizer: Tokenizer,
    pixels: Pixels,
    device: Device,
    sizes: VitConfig,
    text: BertConfig,
}

impl Judge {
    /// A fresh one, with the tokenizer of a folder, which [`write_tokenizer`] has made with so many entries.
    ///
    /// # Errors
    /// The tokenizer does not load.
    pub fn new(sizes: &Network, tokenizer: &Path, entries: usize, seed: u64, device: Device) -> Result<Judge> {
        let (v, t) = (&sizes.vision, &sizes.text);
        let vit = VitConfig {
            image_size: SIDE as i64,
            patch_size: sizes.patch_size,
            width: v.hidden_size,
            layers: v.num_hidden_layers,
            heads: v.num_attention_heads,
        };
        let text = BertConfig {
            vocab_size: entries as i64,
            hidden_size: t.hidden_size,
            intermediate_size: 4 * t.hidden_size,
            num_hidden_layers: t.num_hidden_layers,
            num_attention_heads: t.num_attention_heads,
            max_position_embeddings: LENGTH as i64,
            ..BertConfig::default()
        };
        let weights = Weights::new_random(seed, device);
        Ok(Judge {
            network: Blip::new(&weights.root(), &vit, &text)?,
            weights,
            tokenizer: Tokenizer::bert(tokenizer).map_err(|e| unfit(&e))?,
            pixels: Pixels::clip(Fit::Pillow, SIDE),
            device,
            sizes: vit,
            text,
        })
    }

    /// The parameters by name.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        self.weights.trainable()
    }

    /// Writes `values` of the parameters as the published file, with the configurations of both halves.
    pub fn write(&self, folder: &Path, values: &[(String, Tensor)]) -> Result<()> {
        let (v, t) = (&self.sizes, &self.text);
        let vit = json!({
            "image_size": v.image_size, "patch_size": v.patch_size, "width": v.width, "layers": v.layers, "heads": v.heads,
        });
        write_json(&folder.join("vit_config.json"), &vit)?;
        let med = json!({
            "vocab_size": t.vocab_size,
            "hidden_size": t.hidden_size,
            "intermediate_size": t.intermediate_size,
            "num_hidden_layers": t.num_hidden_layers,
            "num_attention_heads": t.num_attention_heads,
            "max_position_embeddings": t.max_position_embeddings,
            "hidden_act": "gelu",
            "layer_norm_eps": t.layer_norm_eps,
            "add_cross_attention": true,
        });
        write_json(&folder.join("med_config.json"), &med)?;
        save_tensors(folder.join("ImageReward.safetensors"), values, Kind::Half).map_err(|e| unfit(&e).into())
    }
}

impl Scores for Judge {
    fn scores(&self, images: &[&Image], texts: &[&str]) -> Result<Tensor> {
        let again = images.len().div_ceil(texts.len().max(1)) as i64;
        let ids = self.tokenizer.ids(texts, READ)?.to_device(self.device).repeat([again, 1]);
        let words = ids.ne(i64::from(self.tokenizer.pad()));
        let pixels = self.pixels.batch(images)?.to_device(self.device);
        Ok(self.network.forward(&pixels, &ids, &words).squeeze_dim(1))
    }
}

/// Writes BERT's tokenizer for the words of these prompts: the special tokens, the words, and all letters, alone and inside
/// a word, of which written words are made. Returns the number of entries.
///
/// # Errors
/// The disk is full.
pub fn write_tokenizer(prompts: &[Prompt], to: &Path) -> Result<usize> {
    let plain = |p: &Prompt| p.text.split('"').step_by(2).collect::<String>();
    let words: BTreeSet<String> =
        prompts.iter().flat_map(|p| plain(p).split_whitespace().map(str::to_lowercase).collect::<Vec<_>>()).collect();
    let letters = ('a'..='z').chain('0'..='9');
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\""].map(str::to_owned);
    let whole: BTreeSet<String> = letters.clone().map(|l| l.to_string()).chain(words).collect();
    let lines: Vec<String> = special.into_iter().chain(whole).chain(letters.map(|l| format!("##{l}"))).collect();
    let settings = json!({"tokenizer_class": "BertTokenizer", "do_lower_case": true, "pad_token": "[PAD]"});
    write_json(&to.join("tokenizer_config.json"), &settings)?;
    std::fs::write(to.join("vocab.txt"), lines.join("\n") + "\n").context("writing the vocabulary")?;
    Ok(lines.len())
}
