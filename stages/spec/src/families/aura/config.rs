//! `transformer/config.json` of AuraFlow.

use crate::config::{positive, supported};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Side of a patch in latent pixels.
pub const PATCH: i64 = 2;

/// Tokens of the network's own that stand before the text's.
pub const REGISTERS: i64 = 8;

/// Tokens of the text where nothing else is asked for: the default of diffusers' `AuraFlowPipeline`.
pub const TEXT: usize = 256;

/// The guidance that images are made with where nothing else is asked for: the default of diffusers' `AuraFlowPipeline`.
pub const GUIDANCE: f64 = 3.5;

/// More places than any table has; what a damaged file says must not fill the memory.
const MOST_PLACES: i64 = 1 << 24;

/// Wider networks are refused before anything is counted.
const WIDEST: i64 = 1 << 20;

/// The configuration of diffusers' `AuraFlowTransformer2DModel`, with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuraConfig {
    /// Side of a patch in latent pixels.
    pub patch_size: i64,
    /// Channels of the latent.
    pub in_channels: i64,
    /// Channels of the velocity; as `in_channels` where null.
    pub out_channels: Option<i64>,
    /// Number of joint blocks, in which image and text have weights of their own.
    pub num_mmdit_layers: i64,
    /// Number of single blocks, which see both as one sequence.
    pub num_single_dit_layers: i64,
    /// Width of a head.
    pub attention_head_dim: i64,
    /// Number of heads; heads times width of a head is the model's width.
    pub num_attention_heads: i64,
    /// Width of the text tokens.
    pub joint_attention_dim: i64,
    /// Width of the text tokens inside: the model's width.
    pub caption_projection_dim: i64,
    /// Places of the table of positions, a square.
    pub pos_embed_max_size: i64,
}

impl Default for AuraConfig {
    fn default() -> AuraConfig {
        AuraConfig {
            patch_size: PATCH,
            in_channels: 4,
            out_channels: Some(4),
            num_mmdit_layers: 4,
            num_single_dit_layers: 32,
            attention_head_dim: 256,
            num_attention_heads: 12,
            joint_attention_dim: 2048,
            caption_projection_dim: 3072,
            pos_embed_max_size: 1024,
        }
    }
}

impl AuraConfig {
    /// The model's width.
    #[must_use]
    pub fn width(&self) -> i64 {
        self.attention_head_dim.saturating_mul(self.num_attention_heads)
    }

    /// Width inside the feed-forward parts: two thirds of four widths, up to the next multiple of 256
    /// (`AuraFlowFeedForward`).
    #[must_use]
    pub fn hidden(&self) -> i64 {
        (self.width().saturating_mul(8) / 3 + 255) / 256 * 256
    }

    /// Numbers of a patch.
    #[must_use]
    pub fn patch(&self) -> i64 {
        self.in_channels.saturating_mul(PATCH * PATCH)
    }

    /// The side of the table of positions, in patches.
    #[must_use]
    pub fn places(&self) -> i64 {
        self.pos_embed_max_size.max(0).isqrt()
    }

    /// Tokens of the image for a latent `[_, _, h, w]`.
    #[must_use]
    pub fn image_tokens(&self, h: i64, w: i64) -> i64 {
        (h / PATCH) * (w / PATCH)
    }

    /// Whether the network takes a latent `[_, c, h, w]`.
    ///
    /// # Errors
    /// It does not: other channels, sides that are odd, more patches along a side than the table has places.
    pub fn check_latent(&self, c: i64, h: i64, w: i64) -> Result<()> {
        let expected = self.in_channels;
        ensure!(c == expected, "the latent has {c} channels, the transformer takes {expected}");
        ensure!(
            h > 0 && w > 0 && h % PATCH == 0 && w % PATCH == 0,
            "the latent is {h}x{w}, both sides must be even: AuraFlow takes patches of {PATCH}x{PATCH} latent pixels"
        );
        let most = self.places() * PATCH;
        ensure!(
            h <= most && w <= most,
            "the latent is {h}x{w}, the table of positions of this model (`pos_embed_max_size` = {}) goes to {most}x{most}",
            self.pos_embed_max_size
        );
        Ok(())
    }

    /// Refuses what is not implemented and what cannot be.
    ///
    /// # Errors
    /// The first such value, by its name.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "transformer config";
        supported(WHAT, "patch_size", self.patch_size, self.patch_size == PATCH, "2")?;
        positive(
            WHAT,
            &[
                ("in_channels", self.in_channels),
                ("num_mmdit_layers", self.num_mmdit_layers),
                ("num_single_dit_layers", self.num_single_dit_layers),
                ("attention_head_dim", self.attention_head_dim),
                ("num_attention_heads", self.num_attention_heads),
                ("joint_attention_dim", self.joint_attention_dim),
            ],
        )?;
        let (width, caption) = (self.width(), self.caption_projection_dim);
        for (key, width) in [
            ("in_channels", self.in_channels),
            ("attention_head_dim times num_attention_heads", width),
            ("joint_attention_dim", self.joint_attention_dim),
        ] {
            supported(WHAT, key, width, width <= WIDEST, &format!("1 to {WIDEST}"))?;
        }
        let out = self.out_channels.unwrap_or(self.in_channels);
        let same = format!("as many as `in_channels` = {}", self.in_channels);
        supported(WHAT, "out_channels", out, out == self.in_channels, &same)?;
        let wanted = format!("`attention_head_dim` times `num_attention_heads` = {width}");
        supported(WHAT, "caption_projection_dim", caption, caption == width, &wanted)?;
        let places = self.pos_embed_max_size;
        let square = (1..=MOST_PLACES).contains(&places) && self.places() * self.places() == places;
        supported(WHAT, "pos_embed_max_size", places, square, &format!("a square number, at most {MOST_PLACES}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_values_are_refused_by_name() {
        let refused = |change: &dyn Fn(&mut AuraConfig)| {
            let mut config = AuraConfig::default();
            config.check().unwrap();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(refused(&|c| c.patch_size = 4).contains("`patch_size` is 4, supported: 2"));
        assert!(refused(&|c| c.out_channels = Some(8)).contains("`out_channels` is 8, supported: as many as"));
        assert!(refused(&|c| c.caption_projection_dim = 3000).contains("`caption_projection_dim` is 3000"));
        assert!(refused(&|c| c.num_attention_heads = i64::MAX).contains("num_attention_heads` is 9223372036854775807"));
        assert!(refused(&|c| c.joint_attention_dim = 1 << 40).contains("`joint_attention_dim` is 1099511627776"));
        assert!(refused(&|c| c.num_single_dit_layers = 0).contains("`num_single_dit_layers` is 0"));
        for places in [0, -4, 1000, i64::MAX] {
            let says = refused(&|c| c.pos_embed_max_size = places);
            assert!(says.contains(&format!("`pos_embed_max_size` is {places}, supported: a square number")), "{says}");
        }
        let absent = AuraConfig { out_channels: None, ..AuraConfig::default() };
        absent.check().unwrap();
    }

    /// 8192 in the published models; `find_multiple(int(2 * 4 d / 3), 256)` by hand for small ones.
    #[test]
    fn the_width_of_the_feed_forward_part() {
        let hidden = |heads: i64, head: i64| {
            AuraConfig { num_attention_heads: heads, attention_head_dim: head, ..AuraConfig::default() }.hidden()
        };
        // 96 is a third of 256 times 8/3: no rounding up; 97 wide would be 258.
        assert_eq!([hidden(12, 256), hidden(2, 16), hidden(1, 96), hidden(1, 97)], [8192, 256, 256, 512]);
    }

    #[test]
    fn latents_that_the_network_does_not_take_are_refused() {
        let c = AuraConfig::default();
        c.check_latent(4, 64, 48).unwrap();
        assert_eq!((c.image_tokens(64, 48), c.places()), (32 * 24, 32));
        for (h, w) in [(63, 64), (64, 49), (0, 2)] {
            assert!(c.check_latent(4, h, w).unwrap_err().to_string().contains("both sides must be even"));
        }
        let says = c.check_latent(4, 64, 66).unwrap_err().to_string();
        assert!(says.contains("`pos_embed_max_size` = 1024) goes to 64x64"), "{says}");
        assert!(c.check_latent(16, 2, 2).unwrap_err().to_string().contains("has 16 channels, the transformer takes 4"));
    }
}
