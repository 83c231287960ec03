//! The configuration of a CLIP model, from either published layout.

use super::vision::VisionConfig;
use anyhow::{Context, Result};
use opdflow_models::config::{read_json, supported};
use opdflow_models::nn::Activation;
use opdflow_models::text::clip::ClipConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::Path;

/// Both towers.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The text tower.
    pub text: ClipConfig,
    /// The vision tower.
    pub vision: VisionConfig,
}

impl Config {
    /// transformers' `config.json` of a `CLIPModel`.
    ///
    /// # Errors
    /// The file is missing, malformed, or of something that is not supported.
    pub fn transformers(path: &Path) -> Result<Config> {
        let json: Map<String, Value> = read_json(path)?;
        let what = path.display().to_string();
        let class = json.get("model_type").and_then(Value::as_str).unwrap_or("absent");
        supported(&what, "model_type", class, class == "clip", "clip")?;
        let mut text: ClipConfig = section(&json, "text_config").with_context(|| what.clone())?;
        let mut vision: VisionConfig = section(&json, "vision_config").with_context(|| what.clone())?;
        // The model reads its own; those of the towers are for towers that stand alone.
        let width = json.get("projection_dim").and_then(Value::as_i64).unwrap_or(512);
        (text.projection_dim, vision.projection_dim) = (width, width);
        Config { text, vision }.checked().with_context(|| what)
    }

    /// open_clip's `open_clip_config.json`.
    ///
    /// # Errors
    /// As for [`Config::transformers`].
    pub fn open_clip(path: &Path) -> Result<Config> {
        let file: OpenClip = read_json(path)?;
        let OpenClipModel { embed_dim, quick_gelu, vision_cfg: v, text_cfg: t } = file.model_cfg;
        let what = path.display().to_string();
        let (timm, hf) = (v.timm_model_name.unwrap_or_default(), t.hf_model_name.unwrap_or_default());
        supported(&what, "timm_model_name", &timm, timm.is_empty(), "none")?;
        supported(&what, "hf_model_name", &hf, hf.is_empty(), "none")?;
        supported(&what, "head_width", v.head_width, v.head_width > 0, "1 or more")?;
        let hidden_act = if quick_gelu { Activation::QuickGelu } else { Activation::Gelu };
        let text = ClipConfig {
            vocab_size: t.vocab_size,
            hidden_size: t.width,
            intermediate_size: (t.width as f64 * t.mlp_ratio) as i64,
            projection_dim: embed_dim,
            num_hidden_layers: t.layers,
            num_attention_heads: t.heads,
            max_position_embeddings: t.context_length,
            hidden_act,
            // The largest id is where open_clip pools.
            eos_token_id: 2,
            ..ClipConfig::default()
        };
        let vision = VisionConfig {
            hidden_size: v.width,
            intermediate_size: (v.width as f64 * v.mlp_ratio) as i64,
            projection_dim: embed_dim,
            num_hidden_layers: v.layers,
            num_attention_heads: v.width / v.head_width,
            image_size: v.image_size,
            patch_size: v.patch_size,
            hidden_act,
            ..VisionConfig::default()
        };
        Config { text, vision }.checked().with_context(|| what)
    }

    /// open_clip's ViT-H-14, which HPSv2 is.
    #[must_use]
    pub fn vit_h_14() -> Config {
        let text = ClipConfig {
            hidden_size: 1024,
            intermediate_size: 4096,
            projection_dim: 1024,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            hidden_act: Activation::Gelu,
            eos_token_id: 2,
            ..ClipConfig::default()
        };
        let vision = VisionConfig {
            hidden_size: 1280,
            intermediate_size: 5120,
            projection_dim: 1024,
            num_hidden_layers: 32,
            num_attention_heads: 16,
            patch_size: 14,
            hidden_act: Activation::Gelu,
            ..VisionConfig::default()
        };
        Config { text, vision }
    }

    fn checked(self) -> Result<Config> {
        self.text.check()?;
        self.vision.check()?;
        Ok(self)
    }
}

/// A tower's part of transformers' file: what `<key>` says, and over it what an older `<key>_dict` says.
fn section<T: DeserializeOwned>(json: &Map<String, Value>, key: &str) -> Result<T> {
    let mut merged = Map::new();
    for part in [key.to_owned(), format!("{key}_dict")] {
        if let Some(Value::Object(values)) = json.get(&part) {
            merged.extend(values.clone());
        }
    }
    serde_json::from_value(Value::Object(merged)).with_context(|| format!("`{key}` does not hold what is expected"))
}

#[derive(Deserialize)]
struct OpenClip {
    model_cfg: OpenClipModel,
}

#[derive(Deserialize)]
struct OpenClipModel {
    embed_dim: i64,
    #[serde(default)]
    quick_gelu: bool,
    vision_cfg: OpenClipVision,
    text_cfg: OpenClipText,
}

/// open_clip's `CLIPVisionCfg`, with its defaults.
#[derive(Deserialize)]
#[serde(default)]
struct OpenClipVision {
    layers: i64,
    width: i64,
    head_width: i64,
    mlp_ratio: f64,
    patch_size: i64,
    image_size: i64,
    timm_model_name: Option<String>,
}

impl Default for OpenClipVision {
    fn default() -> OpenClipVision {
        let timm_model_name = None;
        OpenClipVision {
            layers: 12,
            width: 768,
            head_width: 64,
            mlp_ratio: 4.0,
            patch_size: 16,
            image_size: 224,
            timm_model_name,
        }
    }
}

/// open_clip's `CLIPTextCfg`, with its defaults.
#[derive(Deserialize)]
#[serde(default)]
struct OpenClipText {
    context_length: i64,
    vocab_size: i64,
    width: i64,
    heads: i64,
    layers: i64,
    mlp_ratio: f64,
    hf_model_name: Option<String>,
}

impl Default for OpenClipText {
    fn default() -> OpenClipText {
        let hf_model_name = None;
        OpenClipText {
            context_length: 77,
            vocab_size: 49408,
            width: 512,
            heads: 8,
            layers: 12,
            mlp_ratio: 4.0,
            hf_model_name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(open: fn(&Path) -> Result<Config>, text: &str) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        open(&path)
    }

    /// The published ViT-H-14.
    #[test]
    fn open_clip_s_file_gives_vit_h_14() {
        let text = r#"{"model_cfg": {"embed_dim": 1024,
            "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24}}}"#;
        assert_eq!(read(Config::open_clip, text).unwrap(), Config::vit_h_14());
    }

    #[test]
    fn the_older_file_s_second_voice_is_heard() {
        let text = r#"{"model_type": "clip", "projection_dim": 768, "text_config": {"hidden_size": 512},
            "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12}, "vision_config_dict": null}"#;
        let config = read(Config::transformers, text).unwrap();
        assert_eq!((config.text.hidden_size, config.text.num_attention_heads), (768, 12));
        assert_eq!((config.text.projection_dim, config.vision.projection_dim), (768, 768));
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        type Open = fn(&Path) -> Result<Config>;
        let (hf, oc): (Open, Open) = (Config::transformers, Config::open_clip);
        let clip = |inside: &str| format!(r#"{{"model_type": "clip", {inside}}}"#);
        let open = |vision: &str, text: &str| {
            format!(r#"{{"model_cfg": {{"embed_dim": 8, "vision_cfg": {{{vision}}}, "text_cfg": {{{text}}}}}}}"#)
        };
        for (how, text, says) in [
            (hf, r#"{"model_type": "siglip"}"#.to_owned(), "`model_type` is siglip, supported: clip"),
            (hf, "{}".to_owned(), "`model_type` is absent"),
            (hf, clip(r#""text_config": {"hidden_act": "selu"}"#), "`text_config` does not hold"),
            (hf, clip(r#""vision_config": {"num_channels": 4}"#), "`num_channels` is 4, supported: 3"),
            (hf, clip(r#""vision_config": {"patch_size": 0}"#), "`patch_size` is 0"),
            (hf, clip(r#""vision_config": {"patch_size": 300}"#), "`patch_size` is 300"),
            (hf, clip(r#""vision_config": {"hidden_size": 100}"#), "`hidden_size` 100 is not a multiple"),
            (oc, open(r#""timm_model_name": "vit""#, ""), "`timm_model_name` is vit"),
            (oc, open(r#""head_width": 0"#, ""), "`head_width` is 0"),
            (oc, open(r#""layers": [3, 4, 6, 3]"#, ""), "does not hold what is expected"),
            (oc, open("", r#""hf_model_name": "xlm""#), "`hf_model_name` is xlm"),
            (oc, "{}".to_owned(), "does not hold what is expected"),
        ] {
            let error = format!("{:#}", read(how, &text).unwrap_err());
            assert!(error.contains("config.json") && error.contains(says), "{text}: {error}");
        }
    }
}
