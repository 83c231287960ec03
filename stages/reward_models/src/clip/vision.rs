//! CLIP's vision tower: transformers `CLIPVisionModelWithProjection`.

use anyhow::Result;
use opdflow_models::config::{positive, supported};
use opdflow_models::init::Init;
use opdflow_models::nn::{Activation, Conv2d, LayerNorm, Linear};
use opdflow_models::text::clip::{Layer, LayerConfig};
use opdflow_models::weights::Scope;
use serde::Deserialize;
use tch::Tensor;

/// The configuration of transformers' `CLIPVisionConfig`, with its defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    /// Width.
    pub hidden_size: i64,
    /// Width inside the feed-forward part.
    pub intermediate_size: i64,
    /// Width of the embedding.
    pub projection_dim: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Heads.
    pub num_attention_heads: i64,
    /// Channels of an image: 3.
    pub num_channels: i64,
    /// Side of an image, in pixels.
    pub image_size: i64,
    /// Side of a patch; what is left over at the far edges is not seen.
    pub patch_size: i64,
    /// Activation of the feed-forward part.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
}

impl Default for VisionConfig {
    fn default() -> VisionConfig {
        VisionConfig {
            hidden_size: 768,
            intermediate_size: 3072,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl VisionConfig {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// A size that is not positive, or sizes that do not go together.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "CLIP vision config";
        positive(WHAT, &[("projection_dim", self.projection_dim), ("image_size", self.image_size)])?;
        supported(WHAT, "num_channels", self.num_channels, self.num_channels == 3, "3")?;
        let (patch, side) = (self.patch_size, self.image_size);
        supported(WHAT, "patch_size", patch, (1..=side).contains(&patch), &format!("1 to the image's {side}"))?;
        self.layer().check(WHAT)
    }

    fn layer(&self) -> LayerConfig {
        LayerConfig {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            hidden_act: self.hidden_act,
            layer_norm_eps: self.layer_norm_eps,
            causal: false,
        }
    }
}

/// The tower and its projection.
pub struct Vision {
    config: VisionConfig,
    patches: Conv2d,
    class: Tensor,
    positions: Tensor,
    norm_before: LayerNorm,
    layers: Vec<Layer>,
    norm_after: LayerNorm,
    projection: Linear,
}

impl Vision {
    /// Takes its tensors from `scope`: `vision_model` and `visual_projection`.
    ///
    /// # Errors
    /// A tensor is missing or of another shape.
    pub fn new(scope: &Scope, config: &VisionConfig) -> Result<Vision> {
        config.check()?;
        let (model, d) = (scope.sub("vision_model"), config.hidden_size);
        let (emb, layers, layer) = (model.sub("embeddings"), model.sub("encoder.layers"), config.layer());
        let places = (config.image_size / config.patch_size).saturating_pow(2).saturating_add(1);
        let norm = |name: &str| LayerNorm::new(&model.sub(name), d, config.layer_norm_eps);
        let wide = Init::Normal((d as f64).powf(-0.5));
        Ok(Vision {
            patches: Conv2d::patches(&emb.sub("patch_embedding"), 3, d, config.patch_size, false)?,
            class: emb.get("class_embedding", &[d], wide)?,
            positions: emb.sub("position_embedding").get("weight", &[places, d], Init::Normal(0.02))?,
            // So it is spelt in every checkpoint.
            norm_before: norm("pre_layrnorm")?,
            layers: (0..config.num_hidden_layers).map(|i| Layer::new(&layers.sub(i), &layer)).collect::<Result<_>>()?,
            norm_after: norm("post_layernorm")?,
            projection: Linear::new(&scope.sub("visual_projection"), d, config.projection_dim, false, wide)?,
            config: config.clone(),
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// `[B, 3, S, S]` (f32, normalised) to the projected class token `[B, P]`, of any length.
    pub fn forward(&self, pixels: &Tensor) -> Tensor {
        let patches = self.patches.forward(pixels).flatten(2, 3).transpose(1, 2);
        let (b, d) = (patches.size()[0], self.config.hidden_size);
        let x = Tensor::cat(&[self.class.expand([b, 1, d], false), patches], 1) + &self.positions;
        let x = self.layers.iter().fold(self.norm_before.forward(&x), |x, layer| layer.forward(&x));
        self.projection.forward(&self.norm_after.forward(&x.select(1, 0)), None)
    }
}
