//! `config.json` of a Mask2Former folder.

use crate::config::{positive, supported};
use crate::nn::Activation;
use anyhow::{Result, ensure};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::collections::BTreeMap;

const WHAT: &str = "Mask2Former config";
/// Groups of the pixel decoder's norms, fixed upstream.
pub const GROUPS: i64 = 32;
/// Scales that pixel and transformer decoder exchange, fixed upstream.
pub const SCALES: usize = 3;

/// The configuration of transformers' `Mask2FormerConfig`, with its defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Mask2FormerConfig {
    /// The backbone, a Swin transformer.
    #[serde(deserialize_with = "swin")]
    pub backbone_config: SwinConfig,
    /// A backbone by name, of old configurations; the weights then belong to another library.
    pub backbone: Option<String>,
    /// Channels of the pixel decoder.
    pub feature_size: i64,
    /// Channels of what masks are made of.
    pub mask_feature_size: i64,
    /// Width of the transformer decoder.
    pub hidden_dim: i64,
    /// Width inside the feed-forward parts of the pixel decoder.
    pub encoder_feedforward_dim: i64,
    /// Layers of the pixel decoder.
    pub encoder_layers: i64,
    /// Rounds of predictions: the layers of the transformer decoder are one fewer.
    pub decoder_layers: i64,
    /// Heads of both decoders.
    pub num_attention_heads: i64,
    /// Width inside the feed-forward parts of the transformer decoder.
    pub dim_feedforward: i64,
    /// Activation of the transformer decoder's feed-forward parts.
    pub activation_function: Activation,
    /// Norms before instead of behind the parts of a layer; not supported.
    pub pre_norm: bool,
    /// A projection between the decoders even where their widths agree.
    pub enforce_input_projection: bool,
    /// Image pixels along one side of a mask's.
    pub common_stride: i64,
    /// Image pixels along one side of a pixel of each of the backbone's maps.
    pub feature_strides: Vec<i64>,
    /// Queries, the most objects of an image.
    pub num_queries: i64,
    /// Names of the classes, by their number.
    #[serde(deserialize_with = "labels")]
    pub id2label: Vec<String>,
}

impl Default for Mask2FormerConfig {
    fn default() -> Mask2FormerConfig {
        Mask2FormerConfig {
            backbone_config: SwinConfig {
                depths: vec![2, 2, 18, 2],
                out_indices: Some(vec![1, 2, 3, 4]),
                ..SwinConfig::default()
            },
            backbone: None,
            feature_size: 256,
            mask_feature_size: 256,
            hidden_dim: 256,
            encoder_feedforward_dim: 1024,
            encoder_layers: 6,
            decoder_layers: 10,
            num_attention_heads: 8,
            dim_feedforward: 2048,
            activation_function: Activation::Relu,
            pre_norm: false,
            enforce_input_projection: false,
            common_stride: 4,
            feature_strides: vec![4, 8, 16, 32],
            num_queries: 100,
            id2label: Vec::new(),
        }
    }
}

impl Mask2FormerConfig {
    /// Refuses what is not implemented and what cannot be.
    ///
    /// # Errors
    /// The first such value, by its name.
    pub fn check(&self) -> Result<()> {
        self.backbone_config.check()?;
        if let Some(name) = &self.backbone {
            supported(WHAT, "backbone", name, false, "none, with a `backbone_config`")?;
        }
        positive(
            WHAT,
            &[
                ("mask_feature_size", self.mask_feature_size),
                ("encoder_feedforward_dim", self.encoder_feedforward_dim),
                ("encoder_layers", self.encoder_layers),
                ("decoder_layers", self.decoder_layers),
                ("num_attention_heads", self.num_attention_heads),
                ("dim_feedforward", self.dim_feedforward),
                ("num_queries", self.num_queries),
            ],
        )?;
        supported(WHAT, "pre_norm", self.pre_norm, !self.pre_norm, "false")?;
        supported(WHAT, "common_stride", self.common_stride, self.common_stride == 4, "4")?;
        supported(
            WHAT,
            "feature_strides",
            format!("{:?}", self.feature_strides),
            self.feature_strides == [4, 8, 16, 32],
            "[4, 8, 16, 32]",
        )?;
        // The norms have 32 groups; positions take pairs of channels for each of two axes.
        for (key, width, step) in [("feature_size", self.feature_size, GROUPS), ("hidden_dim", self.hidden_dim, 4)] {
            supported(WHAT, key, width, width > 0 && width % step == 0, &format!("multiples of {step}"))?;
            let heads = self.num_attention_heads;
            ensure!(width % heads == 0, "{WHAT}: `{key}` {width} is not a multiple of `num_attention_heads` {heads}");
        }
        ensure!(!self.id2label.is_empty(), "{WHAT}: `id2label` is missing, which names the classes");
        Ok(())
    }
}

/// The configuration of transformers' `SwinConfig`, with its defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct SwinConfig {
    /// Side of a patch in pixels.
    pub patch_size: i64,
    /// Channels of the image.
    pub num_channels: i64,
    /// Width of the first stage; each further one has twice that of the one before.
    pub embed_dim: i64,
    /// Blocks of each stage.
    pub depths: Vec<i64>,
    /// Heads of each stage.
    pub num_heads: Vec<i64>,
    /// Side of an attention window.
    pub window_size: i64,
    /// Width inside the feed-forward parts over the stage's.
    pub mlp_ratio: f64,
    /// Whether query, key and value have a bias.
    pub qkv_bias: bool,
    /// Activation of the feed-forward parts.
    pub hidden_act: Activation,
    /// Positions added to the patches; not supported.
    pub use_absolute_embeddings: bool,
    /// Epsilon of the blocks' norms.
    pub layer_norm_eps: f64,
    /// The stages that give a map, by name.
    pub out_features: Option<Vec<String>>,
    /// The same by number; 0 is the patches themselves.
    pub out_indices: Option<Vec<i64>>,
}

impl Default for SwinConfig {
    fn default() -> SwinConfig {
        SwinConfig {
            patch_size: 4,
            num_channels: 3,
            embed_dim: 96,
            depths: vec![2, 2, 6, 2],
            num_heads: vec![3, 6, 12, 24],
            window_size: 7,
            mlp_ratio: 4.0,
            qkv_bias: true,
            hidden_act: Activation::Gelu,
            use_absolute_embeddings: false,
            layer_norm_eps: 1e-5,
            out_features: None,
            out_indices: None,
        }
    }
}

impl SwinConfig {
    /// Width of a stage, counted from 0.
    #[must_use]
    pub fn width(&self, stage: usize) -> i64 {
        self.embed_dim << stage
    }

    /// Width inside the feed-forward parts of a stage.
    #[must_use]
    pub fn inner(&self, stage: usize) -> i64 {
        (self.mlp_ratio * self.width(stage) as f64) as i64
    }

    fn check(&self) -> Result<()> {
        supported(WHAT, "backbone_config.patch_size", self.patch_size, self.patch_size == 4, "4")?;
        supported(WHAT, "backbone_config.num_channels", self.num_channels, self.num_channels == 3, "3")?;
        let absolute = self.use_absolute_embeddings;
        supported(WHAT, "backbone_config.use_absolute_embeddings", absolute, !absolute, "false")?;
        let sound = (1..1 << 16).contains(&self.embed_dim);
        supported(WHAT, "backbone_config.embed_dim", self.embed_dim, sound, "1 to 65535")?;
        supported(
            WHAT,
            "backbone_config.window_size",
            self.window_size,
            (1..128).contains(&self.window_size),
            "1 to 127",
        )?;
        supported(WHAT, "backbone_config.mlp_ratio", self.mlp_ratio, self.inner(0) > 0, "a width of 1 or more")?;
        for (key, values) in [("depths", &self.depths), ("num_heads", &self.num_heads)] {
            let ok = values.len() == 4 && values.iter().all(|&v| v > 0);
            supported(WHAT, &format!("backbone_config.{key}"), format!("{values:?}"), ok, "four numbers of 1 or more")?;
        }
        for (stage, heads) in self.num_heads.iter().enumerate() {
            let width = self.width(stage);
            ensure!(width % heads == 0, "{WHAT}: stage {} is {width} wide, not a multiple of {heads} heads", stage + 1);
        }
        let named = self.out_features.as_ref().is_some_and(|f| f == &["stage1", "stage2", "stage3", "stage4"]);
        let counted = self.out_indices.as_ref().is_some_and(|i| i == &[1, 2, 3, 4]);
        let found = format!("{:?}", self.out_features.as_deref().unwrap_or_default());
        supported(WHAT, "backbone_config.out_features", found, named || counted, "all four stages")
    }
}

/// The backbone's own table, if it is a Swin's: another's keys would be read as nonsense.
fn swin<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<SwinConfig, D::Error> {
    let table = serde_json::Value::deserialize(from)?;
    let kind = table.get("model_type").and_then(|t| t.as_str()).unwrap_or("of no `model_type`");
    if kind != "swin" {
        return Err(D::Error::custom(format!("{WHAT}: the backbone is {kind}, supported: swin")));
    }
    serde_json::from_value(table).map_err(|e| D::Error::custom(format!("backbone_config: {e}")))
}

/// `{"0": "person", ..}` as a list; every number from 0 must be there.
fn labels<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<String>, D::Error> {
    let mut table = BTreeMap::<String, String>::deserialize(from)?;
    let list = (0..table.len()).map_while(|i| table.remove(&i.to_string())).collect();
    match table.keys().next() {
        None => Ok(list),
        Some(key) => Err(D::Error::custom(format!("{WHAT}: `id2label` has {key:?}, but not every number below it"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> std::result::Result<Mask2FormerConfig, String> {
        let config: Mask2FormerConfig = serde_json::from_str(json).map_err(|e| e.to_string())?;
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn the_published_form() {
        let config = read(
            r#"{"architectures": ["Mask2FormerForUniversalSegmentation"], "backbone": null, "feature_size": 256,
                "backbone_config": {"model_type": "swin", "depths": [2, 2, 18, 2], "window_size": 7, "path_norm": true,
                                    "out_features": ["stage1", "stage2", "stage3", "stage4"]},
                "id2label": {"1": "bicycle", "0": "person"}, "model_type": "mask2former"}"#,
        )
        .unwrap();
        assert_eq!(config.id2label, ["person", "bicycle"]);
        assert_eq!(config.backbone_config.width(3), 768);
        let plain = Mask2FormerConfig { id2label: vec!["a".into()], ..Mask2FormerConfig::default() };
        plain.check().unwrap();
    }

    #[test]
    fn what_is_not_supported_is_said() {
        for (json, says) in [
            (
                r#"{"backbone_config": {"model_type": "resnet", "depths": [3]}}"#,
                "the backbone is resnet, supported: swin",
            ),
            (r#"{"backbone_config": {}}"#, "the backbone is of no `model_type`"),
            (r#"{"backbone": "resnet50"}"#, "`backbone` is resnet50"),
            (r#"{"backbone_config": {"model_type": "swin"}}"#, "`backbone_config.out_features` is [], supported: all"),
            (r#"{"pre_norm": true}"#, "`pre_norm` is true, supported: false"),
            (r#"{"feature_size": 48}"#, "`feature_size` is 48, supported: multiples of 32"),
            (r#"{"hidden_dim": 252}"#, "`hidden_dim` 252 is not a multiple of `num_attention_heads` 8"),
            (r#"{"decoder_layers": 0}"#, "`decoder_layers` is 0, supported: 1 or more"),
            (r#"{"feature_strides": [8, 16, 32]}"#, "`feature_strides` is [8, 16, 32], supported: [4, 8, 16, 32]"),
            (r#"{}"#, "`id2label` is missing"),
            (r#"{"id2label": {"0": "a", "2": "b"}}"#, "`id2label` has \"2\", but not every number below it"),
            (r#"{"backbone_config": {"model_type": "swin", "depths": "x"}}"#, "backbone_config: invalid type"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(says), "{json}: {error}");
        }
    }
}
