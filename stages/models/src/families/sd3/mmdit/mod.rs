//! The velocity network: diffusers `SD3Transformer2DModel` (SD3 and SD3.5).

mod attention;
mod block;
mod embed;
mod tape;

pub use tape::Tape;

use super::{MmditConfig, OriginalNames};
use crate::init::Init;
use crate::linears::Linears;
use crate::lora::Lora;
use crate::nn::{LayerNorm, Linear};
use crate::transformer::{AdaNorm, modulate};
use crate::weights::Scope;
use anyhow::Result;
use block::JointBlock;
use embed::{PatchEmbed, TimeTextEmbed};
use tch::{Device, Kind, Tensor};

/// diffusers `SD3Transformer2DModel`, checkpoint `transformer/diffusion_pytorch_model.safetensors`.
pub struct Mmdit {
    config: MmditConfig,
    pos_embed: PatchEmbed,
    time_text_embed: TimeTextEmbed,
    context_embedder: Linear,
    blocks: Vec<JointBlock>,
    norm_out: AdaNorm,
    proj_out: Linear,
    plain: LayerNorm,
}

impl Mmdit {
    /// Takes its tensors from `scope` (usually the root of a set of weights). Fresh weights start as DiT's do: blocks
    /// are the identity and the velocity is zero.
    pub fn new(scope: &Scope, config: &MmditConfig) -> Result<Mmdit> {
        config.check()?;
        let d = config.width();
        let blocks = scope.sub("transformer_blocks");
        let out = config.patch_size * config.patch_size * config.channels_out();
        Ok(Mmdit {
            pos_embed: PatchEmbed::new(&scope.sub("pos_embed"), config)?,
            time_text_embed: TimeTextEmbed::new(&scope.sub("time_text_embed"), config)?,
            context_embedder: Linear::new(
                &scope.sub("context_embedder"),
                config.joint_attention_dim,
                d,
                true,
                Init::Xavier,
            )?,
            blocks: (0..config.num_layers)
                .map(|i| JointBlock::new(&blocks.sub(i), config, i))
                .collect::<Result<_>>()?,
            norm_out: AdaNorm::new(&scope.sub("norm_out"), d, 2)?,
            proj_out: Linear::new(&scope.sub("proj_out"), d, out, true, Init::Zeros)?,
            plain: LayerNorm::plain(d, 1e-6),
            config: config.clone(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &MmditConfig {
        &self.config
    }

    /// The kind in which the network computes.
    pub fn kind(&self) -> Kind {
        self.proj_out.w.kind()
    }

    /// Where the network lives.
    pub fn device(&self) -> Device {
        self.proj_out.w.device()
    }

    /// All linear layers, in the order of the checkpoint's modules.
    pub fn linears(&self) -> Linears {
        let mut out = Vec::new();
        self.time_text_embed.linears(&mut out);
        out.push(self.context_embedder.shape());
        for block in &self.blocks {
            block.linears(&mut out);
        }
        self.norm_out.linears(&mut out);
        out.push(self.proj_out.shape());
        Linears::named(out, &OriginalNames)
    }

    /// Whether a latent `[_, C, h, w]` fits the patches and the table of positions.
    pub fn check_latent(&self, c: i64, h: i64, w: i64) -> Result<()> {
        self.config.check_latent(c, h, w)
    }

    /// The velocity at `latent` `[B, C, H, W]`, in the latent's own kind and shape.
    ///
    /// `timestep` `[B]` is 1000 sigma, a float; `context` `[B, L, joint_attention_dim]`; `pooled` `[B, P]`.
    pub fn forward(
        &self,
        latent: &Tensor,
        timestep: &Tensor,
        context: &Tensor,
        pooled: &Tensor,
        lora: Option<&Lora>,
    ) -> Tensor {
        let (mut x, text, cond) = self.enter(latent, timestep, context, pooled, lora);
        let mut text = Some(text);
        for block in &self.blocks {
            let Some(t) = text else { break };
            (x, text) = block.forward(x, t, &cond, lora);
        }
        self.leave(&x, &cond, latent, lora)
    }

    /// What enters the first block: image tokens `[B, N, D]`, text tokens `[B, L, D]`, activated conditioning `[B, D]`.
    fn enter(
        &self,
        latent: &Tensor,
        timestep: &Tensor,
        context: &Tensor,
        pooled: &Tensor,
        lora: Option<&Lora>,
    ) -> (Tensor, Tensor, Tensor) {
        let (size, p, kind) = (latent.size(), self.config.patch_size, self.kind());
        let x = self.pos_embed.forward(&latent.to_kind(kind).contiguous(), size[2] / p, size[3] / p);
        // Every use of the conditioning is behind the same activation.
        let cond = self.time_text_embed.forward(timestep, &pooled.to_kind(kind), lora).silu();
        (x, self.context_embedder.forward(&context.to_kind(kind), lora), cond)
    }

    /// The velocity, of the kind and shape of `latent`, from the image tokens that the last block gives.
    fn leave(&self, x: &Tensor, cond: &Tensor, latent: &Tensor, lora: Option<&Lora>) -> Tensor {
        let (size, p) = (latent.size(), self.config.patch_size);
        let (b, h, w) = (size[0], size[2] / p, size[3] / p);
        let m = self.norm_out.parts(cond, lora);
        let y = self.proj_out.forward(&modulate(&self.plain.forward(x), &m[1], &m[0]), lora);
        let y = y.view([b, h, w, p, p, self.config.channels_out()]).permute([0, 5, 1, 3, 2, 4]);
        y.reshape([b, self.config.channels_out(), h * p, w * p]).to_kind(latent.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Weights;
    use tch::Device;

    #[test]
    fn the_layers_are_those_of_the_network() {
        let config = MmditConfig {
            num_layers: 3,
            num_attention_heads: 2,
            attention_head_dim: 8,
            caption_projection_dim: 16,
            dual_attention_layers: vec![0, 1],
            ..MmditConfig::default()
        };
        let network = Mmdit::new(&Weights::new_random(1, Device::Cpu).root(), &config).unwrap();
        assert_eq!(config.linears()[..], network.linears()[..]);
    }
}
