//! Images and latents: diffusers `AutoencoderKL`.

mod block;
mod tile;

pub use opdflow_spec::vae::*;

use crate::network::Autoencoder;
use crate::nn::Conv2d;
use crate::weights::Scope;
use anyhow::Result;
use block::{Decoder, Encoder};
use tch::Tensor;

/// diffusers `AutoencoderKL`, checkpoint `vae/diffusion_pytorch_model.safetensors`.
pub struct Vae {
    config: VaeConfig,
    encoder: Encoder,
    decoder: Decoder,
    quant: Option<Conv2d>,
    post_quant: Option<Conv2d>,
}

/// diffusers `DiagonalGaussianDistribution`: mean and log-variance, each `[B, C, h, w]`.
pub struct Posterior {
    /// The mean.
    pub mean: Tensor,
    /// The log-variance, within -30..20.
    pub logvar: Tensor,
}

impl Posterior {
    /// The most probable latent.
    pub fn mode(&self) -> Tensor {
        self.mean.shallow_clone()
    }

    /// The latent at a standard normal `noise` of the same shape.
    pub fn sample(&self, noise: &Tensor) -> Tensor {
        self.mean.addcmul(&(&self.logvar * 0.5).exp(), noise)
    }

    /// Kullback-Leibler divergence from the standard normal, summed over all but the batch: `[B]`.
    pub fn kl(&self) -> Tensor {
        let each: Tensor = self.mean.square() + self.logvar.exp() - 1.0 - &self.logvar;
        each.sum_dim_intlist([1i64, 2, 3].as_slice(), false, None) * 0.5
    }
}

impl Vae {
    /// Takes its tensors from `scope`.
    pub fn new(scope: &Scope, config: &VaeConfig) -> Result<Vae> {
        config.check()?;
        let c = config.latent_channels;
        let conv = |on: bool, name: &str, c: i64| {
            if on { Conv2d::new(&scope.sub(name), c, c, 1, 1, 0).map(Some) } else { Ok(None) }
        };
        Ok(Vae {
            encoder: Encoder::new(&scope.sub("encoder"), config)?,
            decoder: Decoder::new(&scope.sub("decoder"), config)?,
            quant: conv(config.use_quant_conv, "quant_conv", 2 * c)?,
            post_quant: conv(config.use_post_quant_conv, "post_quant_conv", c)?,
            config: config.clone(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Whether an image of this size has a latent.
    pub fn check_image(&self, h: i64, w: i64) -> Result<()> {
        self.config.check_image(h, w)
    }

    /// Images `[B, 3, H, W]` in -1..1 to the raw latent's distribution `[B, C, H/f, W/f]`.
    pub fn encode(&self, image: &Tensor) -> Posterior {
        let x = self.encoder.forward(image);
        let x = self.quant.as_ref().map_or_else(|| x.shallow_clone(), |q| q.forward(&x));
        let c = self.config.latent_channels;
        Posterior { mean: x.narrow(1, 0, c), logvar: x.narrow(1, c, c).clamp(-30.0, 20.0) }
    }

    /// Raw latents `[B, C, h, w]` to images `[B, 3, f h, f w]`, about -1..1, not clamped.
    pub fn decode(&self, z: &Tensor) -> Tensor {
        match &self.post_quant {
            Some(q) => self.decoder.forward(&q.forward(z)),
            None => self.decoder.forward(z),
        }
    }

    /// A raw latent as the transformer sees it: (z - shift) x scale.
    pub fn scale(&self, z: &Tensor) -> Tensor {
        (z - self.config.shift_factor.unwrap_or(0.0)) * self.config.scaling_factor
    }

    /// The raw latent of one that the transformer made: z / scale + shift.
    pub fn unscale(&self, z: &Tensor) -> Tensor {
        z / self.config.scaling_factor + self.config.shift_factor.unwrap_or(0.0)
    }
}

impl Autoencoder for Vae {
    fn encode(&self, images: &Tensor) -> Tensor {
        self.scale(&Vae::encode(self, images).mode())
    }

    fn decode(&self, latents: &Tensor) -> Tensor {
        Vae::decode(self, &self.unscale(latents))
    }

    fn decode_tiled(&self, latents: &Tensor) -> Tensor {
        Vae::decode_tiled(self, &self.unscale(latents))
    }
}
