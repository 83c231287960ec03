//! `transformer/config.json` of FLUX.1.

use crate::config::{positive, supported};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Side of a patch in latent pixels.
pub const PATCH: i64 = 2;

/// The longest text part that `FluxPipeline` takes, in tokens.
pub const LONGEST_TEXT: usize = 512;

/// The guidance that FLUX.1-dev is sampled with where nothing else is asked for: the default of diffusers' `FluxPipeline`.
pub const GUIDANCE: f64 = 3.5;

/// The configuration of diffusers' `FluxTransformer2DModel`, with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FluxConfig {
    /// Side of a patch as the class counts it; the patches of 2 by 2 latent pixels are made before it.
    pub patch_size: i64,
    /// Channels of a patch: four times those of the latent.
    pub in_channels: i64,
    /// Channels of a patch of the velocity; as `in_channels` where absent.
    pub out_channels: Option<i64>,
    /// Number of double blocks, in which image and text have weights of their own.
    pub num_layers: i64,
    /// Number of single blocks, which see both as one sequence.
    pub num_single_layers: i64,
    /// Width of a head.
    pub attention_head_dim: i64,
    /// Number of heads; heads times width of a head is the model's width.
    pub num_attention_heads: i64,
    /// Width of the text tokens.
    pub joint_attention_dim: i64,
    /// Width of the pooled text.
    pub pooled_projection_dim: i64,
    /// Whether the guidance is an input of the network (dev), or there is none (schnell).
    pub guidance_embeds: bool,
    /// The parts of a head that turn with the three coordinates of a token: none, row, column.
    pub axes_dims_rope: Vec<i64>,
}

impl Default for FluxConfig {
    fn default() -> FluxConfig {
        FluxConfig {
            patch_size: 1,
            in_channels: 64,
            out_channels: None,
            num_layers: 19,
            num_single_layers: 38,
            attention_head_dim: 128,
            num_attention_heads: 24,
            joint_attention_dim: 4096,
            pooled_projection_dim: 768,
            guidance_embeds: false,
            axes_dims_rope: vec![16, 56, 56],
        }
    }
}

impl FluxConfig {
    /// The model's width.
    #[must_use]
    pub fn width(&self) -> i64 {
        self.attention_head_dim * self.num_attention_heads
    }

    /// Channels of a patch of the velocity.
    #[must_use]
    pub fn channels_out(&self) -> i64 {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Channels of the latent, 16 in the published models.
    #[must_use]
    pub fn latent_channels(&self) -> i64 {
        self.in_channels / (PATCH * PATCH)
    }

    /// Tokens of the image for a latent `[_, _, h, w]`.
    #[must_use]
    pub fn image_tokens(&self, h: i64, w: i64) -> i64 {
        (h / PATCH) * (w / PATCH)
    }

    /// Tokens of the text that the published models are sampled with: 512 for dev, 256 for schnell (their model cards).
    #[must_use]
    pub fn max_sequence_length(&self) -> usize {
        if self.guidance_embeds { 512 } else { 256 }
    }

    /// The guidance that the network is given for what was asked: [`GUIDANCE`] where nothing was. A network without an
    /// input for it takes nothing, or 0 or 1, which mean none.
    ///
    /// # Errors
    /// A guidance that the network has no input for; one that is negative or not finite.
    pub fn guidance(&self, asked: Option<f64>) -> Result<f64> {
        match asked {
            None => Ok(if self.guidance_embeds { GUIDANCE } else { 1.0 }),
            Some(g) if !(g >= 0.0 && g.is_finite()) => {
                anyhow::bail!("the guidance is {g}, expected a number that is 0 or more")
            }
            Some(g) => {
                ensure!(
                    self.guidance_embeds || g == 0.0 || g == 1.0,
                    "the guidance is {g}, and this network has no input for it (`guidance_embeds` is false, as in FLUX.1-schnell): \
                     leave it out"
                );
                Ok(g)
            }
        }
    }

    /// Whether a latent `[_, c, h, w]` can be cut into patches of this network.
    ///
    /// # Errors
    /// It cannot.
    pub fn check_latent(&self, c: i64, h: i64, w: i64) -> Result<()> {
        let expected = self.latent_channels();
        ensure!(c == expected, "the latent has {c} channels, the transformer takes {expected}");
        ensure!(
            h > 0 && w > 0 && h % PATCH == 0 && w % PATCH == 0,
            "the latent is {h}x{w}, both sides must be even: FLUX.1 takes patches of {PATCH}x{PATCH} latent pixels (images in \
             multiples of 16)"
        );
        Ok(())
    }

    /// Refuses what is not implemented and what cannot be.
    ///
    /// # Errors
    /// The first such value, by its name.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "transformer config";
        supported(WHAT, "patch_size", self.patch_size, self.patch_size == 1, "1")?;
        positive(
            WHAT,
            &[
                ("in_channels", self.in_channels),
                ("out_channels", self.channels_out()),
                ("num_layers", self.num_layers),
                ("num_single_layers", self.num_single_layers),
                ("attention_head_dim", self.attention_head_dim),
                ("num_attention_heads", self.num_attention_heads),
                ("joint_attention_dim", self.joint_attention_dim),
                ("pooled_projection_dim", self.pooled_projection_dim),
            ],
        )?;
        let four = PATCH * PATCH;
        supported(WHAT, "in_channels", self.in_channels, self.in_channels % four == 0, "multiples of 4")?;
        // Fill, Canny, Depth and Kontext give the network more than the latent.
        let out = self.channels_out();
        let same = format!("as many as `in_channels` = {}: text-to-image models", self.in_channels);
        supported(WHAT, "out_channels", out, out == self.in_channels, &same)?;
        let (axes, head) = (&self.axes_dims_rope, self.attention_head_dim);
        let fits = axes.len() == 3 && axes.iter().all(|a| *a > 0 && a % 2 == 0) && sum(axes) == Some(head);
        let wanted = format!("three even numbers whose sum is `attention_head_dim` = {head}");
        supported(WHAT, "axes_dims_rope", format!("{axes:?}"), fits, &wanted)
    }
}

fn sum(axes: &[i64]) -> Option<i64> {
    axes.iter().try_fold(0i64, |sum, a| sum.checked_add(*a))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut FluxConfig)) -> String {
        let mut config = FluxConfig::default();
        config.check().unwrap();
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn unsupported_values_are_refused_by_name() {
        assert!(refused(|c| c.patch_size = 2).contains("`patch_size` is 2, supported: 1"));
        assert!(refused(|c| c.in_channels = 66).contains("`in_channels` is 66"));
        // FLUX.1-Fill-dev.
        let fill = refused(|c| (c.in_channels, c.out_channels) = (384, Some(64)));
        assert!(fill.contains("`out_channels` is 64, supported: as many as `in_channels` = 384"), "{fill}");
        assert!(refused(|c| c.num_single_layers = 0).contains("`num_single_layers` is 0"));
        for axes in [vec![64, 64], vec![15, 57, 56], vec![16, 56, 58], vec![i64::MAX - 1, 4, 126], vec![128, 2, -2]] {
            let says = refused(|c| c.axes_dims_rope.clone_from(&axes));
            assert!(says.contains("`axes_dims_rope`") && says.contains("= 128"), "{says}");
        }
    }

    #[test]
    fn latents_that_cannot_be_cut_into_patches_are_refused() {
        let c = FluxConfig::default();
        c.check_latent(16, 128, 96).unwrap();
        assert_eq!(c.image_tokens(128, 96), 64 * 48);
        for (h, w) in [(127, 128), (128, 97), (0, 2), (1, 1)] {
            let says = c.check_latent(16, h, w).unwrap_err().to_string();
            assert!(says.contains(&format!("the latent is {h}x{w}, both sides must be even")), "{says}");
        }
        assert!(c.check_latent(4, 2, 2).unwrap_err().to_string().contains("has 4 channels, the transformer takes 16"));
    }

    #[test]
    fn guidance_goes_to_networks_that_have_an_input_for_it() {
        let schnell = FluxConfig::default();
        let dev = FluxConfig { guidance_embeds: true, ..FluxConfig::default() };
        assert_eq!((dev.guidance(None).unwrap(), dev.guidance(Some(1.0)).unwrap()), (3.5, 1.0));
        assert_eq!((schnell.guidance(None).unwrap(), schnell.guidance(Some(0.0)).unwrap()), (1.0, 0.0));
        assert!(schnell.guidance(Some(3.5)).unwrap_err().to_string().contains("no input for it"));
        for bad in [f64::NAN, -1.0, f64::INFINITY] {
            assert!(dev.guidance(Some(bad)).is_err() && schnell.guidance(Some(bad)).is_err());
        }
        assert_eq!((dev.max_sequence_length(), schnell.max_sequence_length()), (512, 256));
    }
}
