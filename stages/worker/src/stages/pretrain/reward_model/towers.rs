//! A CLIP with weights that can be trained, and how it is written in each published layout.

use super::pairs::Scores;
use crate::runtime::unfit::unfit;
use anyhow::{Context as _, Result, ensure};
use opdflow_kinds::stages::pretrain::reward_model::Network;
use opdflow_miniature::SIDE;
use opdflow_models::init::Init;
use opdflow_models::nn::Activation;
use opdflow_models::text::clip::{ClipConfig, ClipText};
use opdflow_models::text::tokenizer::Tokenizer;
use opdflow_models::weights::{Cut, Weights, read_tensors, save_tensors};
use opdflow_reward_models::clip::{Config, Vision, VisionConfig, open_clip};
use opdflow_reward_models::pixels::{Fit, Pixels};
use opdflow_rewards::Image;
use serde_json::{Value, json};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor, no_grad};

/// Tokens of the longest prompt that is read whole.
const LENGTH: i64 = 16;
/// The largest scale of a cosine, as CLIP was trained with.
const LARGEST: f64 = 100.0;

/// Both towers and the scale of their cosine.
pub struct Towers {
    vision: Vision,
    text: ClipText,
    log_scale: Tensor,
    weights: Weights,
    tokenizer: Tokenizer,
    pixels: Pixels,
    device: Device,
    config: Config,
}

/// The configuration of both, for the vocabulary of a tokenizer.
fn config(sizes: &Network, tokenizer: &Tokenizer) -> Result<Config> {
    // The last of the ids is the end token, which fills rows up too.
    let end = i64::from(tokenizer.pad());
    let (v, t) = (&sizes.vision, &sizes.text);
    Ok(Config {
        text: ClipConfig {
            vocab_size: end + 1,
            hidden_size: t.hidden_size,
            intermediate_size: 4 * t.hidden_size,
            projection_dim: sizes.projection_dim,
            num_hidden_layers: t.num_hidden_layers,
            num_attention_heads: t.num_attention_heads,
            max_position_embeddings: LENGTH,
            hidden_act: Activation::QuickGelu,
            eos_token_id: end,
            ..ClipConfig::default()
        },
        vision: VisionConfig {
            hidden_size: v.hidden_size,
            intermediate_size: 4 * v.hidden_size,
            projection_dim: sizes.projection_dim,
            num_hidden_layers: v.num_hidden_layers,
            num_attention_heads: v.num_attention_heads,
            image_size: SIDE as i64,
            patch_size: sizes.patch_size,
            hidden_act: Activation::QuickGelu,
            ..VisionConfig::default()
        },
    })
}

impl Towers {
    /// Fresh ones, with the tokenizer of a folder.
    ///
    /// # Errors
    /// The tokenizer does not load.
    pub fn new(sizes: &Network, tokenizer: &Path, seed: u64, device: Device) -> Result<Towers> {
        let tokenizer = Tokenizer::clip(tokenizer).map_err(|e| unfit(&e))?;
        let config = config(sizes, &tokenizer)?;
        let weights = Weights::new_random(seed, device);
        let vision = Vision::new(&weights.root(), &config.vision)?;
        let text = ClipText::new(&weights.root(), &config.text)?;
        let log_scale = weights.root().get("logit_scale", &[], Init::Zeros)?;
        // CLIP's own start.
        let _ = no_grad(|| log_scale.shallow_clone().fill_((1.0f64 / 0.07).ln()));
        let pixels = Pixels::clip(Fit::Processor, SIDE);
        Ok(Towers { vision, text, log_scale, weights, tokenizer, pixels, device, config })
    }

    /// The parameters by name.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        self.weights.trainable()
    }

    /// Gives the parameters the values of a checkpoint in transformers' layout.
    ///
    /// # Errors
    /// It is of another size.
    pub fn go_on_from(&self, folder: &Path) -> Result<()> {
        let (values, _) =
            read_tensors(folder.join("model.safetensors"), Device::Cpu, Some(Kind::Float)).map_err(|e| unfit(&e))?;
        for (name, parameter) in self.named() {
            let value = values.get(&name).filter(|v| v.size() == parameter.size());
            let value = value.with_context(|| format!("`start` is of other sizes: see `{name}`"));
            let value = value.map_err(|e| opdflow_api::Fault::user(format!("{e:#}")))?;
            no_grad(|| parameter.shallow_clone().copy_(value));
        }
        Ok(())
    }

    /// `[B, P]`, rows of length 1.
    pub fn see<P: Borrow<Image>>(&self, images: &[P]) -> Result<Tensor> {
        Ok(unit(&self.vision.forward(&self.pixels.batch(images)?.to_device(self.device))))
    }

    /// `[B, P]`, rows of length 1.
    pub fn read<S: AsRef<str>>(&self, texts: &[S]) -> Result<Tensor> {
        Ok(unit(&self.text.forward(&self.tokenizer.ids(texts, LENGTH as usize)?)?.pooled))
    }

    /// What a cosine is multiplied by.
    pub fn scale(&self) -> Tensor {
        self.log_scale.clamp_max(LARGEST.ln()).exp()
    }

    /// Writes `values` of the parameters as transformers' `CLIPModel`.
    pub fn write_transformers(&self, folder: &Path, values: &[(String, Tensor)]) -> Result<()> {
        write_json(&folder.join("config.json"), &transformers(&self.config))?;
        save_tensors(folder.join("model.safetensors"), &clamped(values), Kind::Half).map_err(|e| unfit(&e).into())
    }

    /// Writes them as open_clip's checkpoint, under the name of HPSv2's file.
    pub fn write_open_clip(&self, folder: &Path, values: &[(String, Tensor)]) -> Result<()> {
        write_json(&folder.join("open_clip_config.json"), &open_clip_config(&self.config))?;
        let tensors = in_open_clip(&clamped(values))?;
        save_tensors(folder.join("HPS_v2.1_compressed.safetensors"), &tensors, Kind::Half).map_err(|e| unfit(&e).into())
    }
}

impl Scores for Towers {
    fn scores(&self, images: &[&Image], texts: &[&str]) -> Result<Tensor> {
        let (seen, read) = (self.see(images)?, self.read(texts)?);
        let again = images.len().div_ceil(texts.len().max(1)) as i64;
        let products = seen * read.repeat([again, 1]);
        Ok(products.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float) * self.scale())
    }
}

/// What AdamW moves and Muon does not: tables, and the scale.
pub fn is_plain(name: &str) -> bool {
    name.contains("embed") || name == "logit_scale" || name == "cls_token"
}

/// Whether a parameter is of the tower that sees.
pub fn is_vision(name: &str) -> bool {
    name.starts_with("vision_model.") || name.starts_with("visual_projection.")
}

/// The parameters as they were used: a scale beyond the largest counts as it.
fn clamped(values: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    let one = |(name, value): &(String, Tensor)| {
        let value = if name == "logit_scale" { value.clamp_max(LARGEST.ln()) } else { value.shallow_clone() };
        (name.clone(), value)
    };
    values.iter().map(one).collect()
}

/// Tensors by transformers' names in open_clip's layout.
fn in_open_clip(values: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>> {
    let mut whole = BTreeMap::new();
    let mut thirds: BTreeMap<String, BTreeMap<i64, Tensor>> = BTreeMap::new();
    for (name, value) in values {
        let place = open_clip::place(name);
        match place.cut {
            Cut::Third(which) => {
                thirds.entry(place.name).or_default().insert(which, value.shallow_clone());
            }
            Cut::Transposed => {
                whole.insert(place.name, value.transpose(0, 1).contiguous());
            }
            _ => {
                whole.insert(place.name, value.shallow_clone());
            }
        }
    }
    for (name, parts) in thirds {
        ensure!(parts.len() == 3, "`{name}` has {} of three parts", parts.len());
        whole.insert(name, Tensor::cat(&parts.into_values().collect::<Vec<_>>(), 0));
    }
    Ok(whole.into_iter().collect())
}

fn transformers(config: &Config) -> Value {
    let (t, v) = (&config.text, &config.vision);
    json!({
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": t.projection_dim,
        "text_config": {
            "vocab_size": t.vocab_size,
            "hidden_size": t.hidden_size,
            "intermediate_size": t.intermediate_size,
            "num_hidden_layers": t.num_hidden_layers,
            "num_attention_heads": t.num_attention_heads,
            "max_position_embeddings": t.max_position_embeddings,
            "eos_token_id": t.eos_token_id,
            "hidden_act": "quick_gelu",
        },
        "vision_config": {
            "hidden_size": v.hidden_size,
            "intermediate_size": v.intermediate_size,
            "num_hidden_layers": v.num_hidden_layers,
            "num_attention_heads": v.num_attention_heads,
            "image_size": v.image_size,
            "patch_size": v.patch_size,
            "hidden_act": "quick_gelu",
        },
    })
}

fn open_clip_config(config: &Config) -> Value {
    let (t, v) = (&config.text, &config.vision);
    json!({"model_cfg": {
        "embed_dim": t.projection_dim,
        "quick_gelu": true,
        "vision_cfg": {
            "image_size": v.image_size,
            "layers": v.num_hidden_layers,
            "width": v.hidden_size,
            "head_width": v.hidden_size / v.num_attention_heads,
            "patch_size": v.patch_size,
        },
        "text_cfg": {
            "context_length": t.max_position_embeddings,
            "vocab_size": t.vocab_size,
            "width": t.hidden_size,
            "heads": t.num_attention_heads,
            "layers": t.num_hidden_layers,
        },
    }})
}

/// Writes a configuration, and the folder that it lies in.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(path, serde_json::to_string_pretty(value)? + "\n").with_context(|| path.display().to_string())
}

fn unit(x: &Tensor) -> Tensor {
    x / (x.square().sum_dim_intlist([-1i64].as_slice(), true, Kind::Float) + 1e-12).sqrt()
}
