//! `vae/config.json`.

use crate::config::{positive, supported};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// The configuration of diffusers' `AutoencoderKL`, with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Channels of the image.
    pub in_channels: i64,
    /// Channels of the decoded image.
    pub out_channels: i64,
    /// One `DownEncoderBlock2D` for each level.
    pub down_block_types: Vec<String>,
    /// One `UpDecoderBlock2D` for each level.
    pub up_block_types: Vec<String>,
    /// Widths of the levels, fine to coarse; each level but the last halves the image.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks a level (the decoder has one more).
    pub layers_per_block: i64,
    /// Activation: `silu`.
    pub act_fn: String,
    /// Channels of the latent.
    pub latent_channels: i64,
    /// Groups of the norms.
    pub norm_num_groups: i64,
    /// Side of the images of training, in pixels; longer ones are decoded in tiles of it where that is asked for.
    #[serde(deserialize_with = "side")]
    pub sample_size: i64,
    /// What a latent is multiplied by on its way to the transformer.
    pub scaling_factor: f64,
    /// What is taken off a latent before that.
    pub shift_factor: Option<f64>,
    /// A 1x1 convolution behind the encoder.
    pub use_quant_conv: bool,
    /// A 1x1 convolution before the decoder.
    pub use_post_quant_conv: bool,
    /// Attention in the coarsest level.
    pub mid_block_add_attention: bool,
    /// Per-channel statistics, which no Stable Diffusion 3 model has.
    pub latents_mean: Option<Vec<f64>>,
    /// Per-channel statistics, which no Stable Diffusion 3 model has.
    pub latents_std: Option<Vec<f64>>,
}

impl Default for VaeConfig {
    fn default() -> VaeConfig {
        VaeConfig {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".into()],
            up_block_types: vec!["UpDecoderBlock2D".into()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".into(),
            latent_channels: 4,
            norm_num_groups: 32,
            sample_size: 32,
            scaling_factor: 0.18215,
            shift_factor: None,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
            latents_mean: None,
            latents_std: None,
        }
    }
}

impl VaeConfig {
    /// Image pixels along one side of a latent pixel.
    pub fn factor(&self) -> i64 {
        1 << (self.block_out_channels.len().max(1) - 1)
    }

    /// Whether an image of this size has a latent.
    ///
    /// # Errors
    /// It has none.
    pub fn check_image(&self, h: i64, w: i64) -> Result<()> {
        let f = self.factor();
        ensure!(
            h > 0 && w > 0 && h % f == 0 && w % f == 0,
            "the image is {h}x{w}, both sides must be multiples of {f}"
        );
        Ok(())
    }

    /// Refuses what is not implemented and what cannot be.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "vae config";
        let levels = self.block_out_channels.len();
        supported(
            WHAT,
            "block_out_channels",
            format!("{:?}", self.block_out_channels),
            (1..32).contains(&levels),
            "1 to 31 levels",
        )?;
        for (key, types, only) in [
            ("down_block_types", &self.down_block_types, "DownEncoderBlock2D"),
            ("up_block_types", &self.up_block_types, "UpDecoderBlock2D"),
        ] {
            let ok = types.len() == levels && types.iter().all(|t| t == only);
            supported(WHAT, key, format!("{types:?}"), ok, &format!("{levels} times {only}"))?;
        }
        supported(WHAT, "act_fn", &self.act_fn, ["silu", "swish"].contains(&self.act_fn.as_str()), "silu")?;
        let stats = self.latents_mean.is_some() || self.latents_std.is_some();
        supported(WHAT, "latents_mean / latents_std", "set", !stats, "null")?;
        let g = self.norm_num_groups;
        positive(
            WHAT,
            &[
                ("in_channels", self.in_channels),
                ("out_channels", self.out_channels),
                ("latent_channels", self.latent_channels),
                ("layers_per_block", self.layers_per_block),
                ("norm_num_groups", g),
                ("sample_size", self.sample_size),
            ],
        )?;
        let divisible = self.block_out_channels.iter().all(|c| *c > 0 && c % g == 0);
        let widths = format!("{:?}", self.block_out_channels);
        supported(WHAT, "block_out_channels", widths, divisible, &format!("multiples of norm_num_groups = {g}"))
    }
}

/// A side, or height and width of which the first counts, as upstream.
fn side<'de, D: serde::Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Side {
        One(i64),
        Two([i64; 2]),
    }
    Ok(match Side::deserialize(from)? {
        Side::One(side) | Side::Two([side, _]) => side,
    })
}
