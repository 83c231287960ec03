//! `transformer/config.json`.

use crate::config::{positive, supported};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// The configuration of diffusers' `SD3Transformer2DModel`, with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MmditConfig {
    /// Height and width of the latent that positions are laid out for.
    pub sample_size: i64,
    /// Side of a patch in latent pixels.
    pub patch_size: i64,
    /// Channels of the latent.
    pub in_channels: i64,
    /// Number of joint blocks.
    pub num_layers: i64,
    /// Width of a head.
    pub attention_head_dim: i64,
    /// Number of heads; heads times width of a head is the model's width.
    pub num_attention_heads: i64,
    /// Width of the text tokens.
    pub joint_attention_dim: i64,
    /// Width of the text tokens inside; must be the model's width.
    pub caption_projection_dim: i64,
    /// Width of the pooled text.
    pub pooled_projection_dim: i64,
    /// Channels of the velocity; as `in_channels` where absent.
    pub out_channels: Option<i64>,
    /// Side of the table of positions that is cropped to the latent, in patches; without it positions are laid out anew.
    pub pos_embed_max_size: Option<i64>,
    /// Blocks with a second attention over the image alone (SD3.5-medium: the first 13).
    pub dual_attention_layers: Vec<i64>,
    /// Norm of queries and keys: none or `rms_norm`.
    pub qk_norm: Option<String>,
}

impl Default for MmditConfig {
    fn default() -> MmditConfig {
        MmditConfig {
            sample_size: 128,
            patch_size: 2,
            in_channels: 16,
            num_layers: 18,
            attention_head_dim: 64,
            num_attention_heads: 18,
            joint_attention_dim: 4096,
            caption_projection_dim: 1152,
            pooled_projection_dim: 2048,
            out_channels: Some(16),
            pos_embed_max_size: Some(96),
            dual_attention_layers: Vec::new(),
            qk_norm: None,
        }
    }
}

impl MmditConfig {
    /// The model's width.
    pub fn width(&self) -> i64 {
        self.attention_head_dim * self.num_attention_heads
    }

    /// Channels of the velocity.
    pub fn channels_out(&self) -> i64 {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Whether queries and keys are normed.
    pub fn normed(&self) -> bool {
        self.qk_norm.is_some()
    }

    /// Whether a latent `[_, C, h, w]` fits the patches and the table of positions.
    ///
    /// # Errors
    /// It does not.
    pub fn check_latent(&self, c: i64, h: i64, w: i64) -> Result<()> {
        let p = self.patch_size;
        ensure!(c == self.in_channels, "the latent has {c} channels, the transformer takes {}", self.in_channels);
        ensure!(h % p == 0 && w % p == 0, "the latent is {h}x{w}, both sides must be multiples of the patch size {p}");
        if let Some(max) = self.pos_embed_max_size {
            ensure!(
                h / p <= max && w / p <= max,
                "the latent is {h}x{w}, the table of positions ends at {0}x{0}",
                max * p
            );
        }
        Ok(())
    }

    /// Refuses what is not implemented and what cannot be.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "transformer config";
        if let Some(norm) = &self.qk_norm {
            supported(WHAT, "qk_norm", norm, norm == "rms_norm", "null, \"rms_norm\"")?;
        }
        positive(
            WHAT,
            &[
                ("sample_size", self.sample_size),
                ("patch_size", self.patch_size),
                ("in_channels", self.in_channels),
                ("out_channels", self.channels_out()),
                ("num_layers", self.num_layers),
                ("attention_head_dim", self.attention_head_dim),
                ("num_attention_heads", self.num_attention_heads),
                ("joint_attention_dim", self.joint_attention_dim),
                ("pooled_projection_dim", self.pooled_projection_dim),
                ("pos_embed_max_size", self.pos_embed_max_size.unwrap_or(1)),
            ],
        )?;
        let (width, p) = (self.width(), self.patch_size);
        supported(WHAT, "sample_size", self.sample_size, self.sample_size >= p, "`patch_size` or more")?;
        ensure!(
            self.caption_projection_dim == width,
            "{WHAT}: `caption_projection_dim` is {}, it must be num_attention_heads x attention_head_dim = {width}",
            self.caption_projection_dim
        );
        ensure!(width % 4 == 0, "{WHAT}: the width {width} must be divisible by 4 for the position table");
        ensure!(
            self.dual_attention_layers.iter().all(|l| (0..self.num_layers).contains(l)),
            "{WHAT}: `dual_attention_layers` names a layer outside of 0..{}",
            self.num_layers
        );
        Ok(())
    }
}
