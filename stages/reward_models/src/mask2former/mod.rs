//! Mask2Former (Cheng et al. 2022) with a Swin backbone: transformers `Mask2FormerForUniversalSegmentation`.
//!
//! Three parts, a file each: the backbone (`swin.rs`, its attention in `window.rs`), the pixel decoder
//! (`pixel_decoder.rs`, its attention in `deformable.rs`) and the transformer decoder (`decoder.rs`). Tensors have the
//! names of the published files.

mod decoder;
mod deformable;
mod pixel_decoder;
mod sine;
mod swin;
mod window;

use crate::parts;
use anyhow::Result;
use decoder::Decoder;
use opdflow_models::config::read_json;
use opdflow_models::init::Init;
use opdflow_models::nn::Linear;
use opdflow_models::weights::Scope;
use pixel_decoder::PixelDecoder;
use std::path::Path;
use swin::Swin;
use tch::{Device, Tensor};

pub use opdflow_spec::reward_models::geneval::detector::{Mask2FormerConfig, SwinConfig};
pub use pixel_decoder::Features;

/// What the network says of an image, for each of its queries.
pub struct Segments {
    /// Class logits `[B, Q, classes + 1]`; the last is "no object".
    pub classes: Tensor,
    /// Mask logits `[B, Q, H/4, W/4]`, positive inside.
    pub masks: Tensor,
}

/// The network.
pub struct Mask2Former {
    backbone: Swin,
    pixels: PixelDecoder,
    queries: Decoder,
    classes: Linear,
}

impl Mask2Former {
    /// Takes its tensors from `scope`.
    ///
    /// # Errors
    /// When the configuration is not supported, or a tensor is missing or of another shape.
    pub fn new(scope: &Scope, config: &Mask2FormerConfig) -> Result<Mask2Former> {
        config.check()?;
        let (level, classes) = (scope.sub("model.pixel_level_module"), config.id2label.len() as i64);
        Ok(Mask2Former {
            backbone: Swin::new(&level.sub("encoder"), &config.backbone_config)?,
            pixels: PixelDecoder::new(&level.sub("decoder"), config)?,
            queries: Decoder::new(&scope.sub("model.transformer_module"), config)?,
            classes: Linear::new(&scope.sub("class_predictor"), config.hidden_dim, classes + 1, true, Init::Xavier)?,
        })
    }

    /// Opens a published folder: `config.json` and `model.safetensors`, in f32.
    ///
    /// # Errors
    /// As [`Mask2Former::new`], and when a file is missing, unreadable or holds tensors that belong nowhere.
    pub fn open(folder: &Path, device: Device) -> Result<(Mask2Former, Mask2FormerConfig)> {
        let config: Mask2FormerConfig = read_json(&folder.join("config.json"))?;
        let weights = parts::weights(folder, device)?;
        let network = Mask2Former::new(&weights.root(), &config)?;
        weights.expect_all_used(superfluous)?;
        Ok((network, config))
    }

    /// Logits for images `[B, 3, H, W]` of one size, normalised.
    pub fn forward(&self, images: &Tensor) -> Segments {
        self.decode(&self.features(&self.maps(images)))
    }

    /// The backbone's four maps `[B, C_i, H_i, W_i]`, fine to coarse.
    pub fn maps(&self, images: &Tensor) -> Vec<Tensor> {
        self.backbone.forward(images)
    }

    /// The pixel decoder's maps of the backbone's.
    pub fn features(&self, maps: &[Tensor]) -> Features {
        self.pixels.forward(maps)
    }

    /// Classes and masks of the pixel decoder's maps.
    pub fn decode(&self, features: &Features) -> Segments {
        let (state, masks) = self.queries.forward(features);
        Segments { classes: self.classes.forward(&state, None), masks }
    }
}

/// Tensors of published files that the network does not need: weights of the loss, the table that follows from the
/// window's size, and the last norm of a Swin that classifies, under either of its names.
fn superfluous(name: &str) -> bool {
    let of_swin = |rest: &str| {
        rest.ends_with("relative_position_index") || rest.trim_start_matches("swin.").starts_with("layernorm.")
    };
    name == "criterion.empty_weight" || name.strip_prefix("model.pixel_level_module.encoder.").is_some_and(of_swin)
}
