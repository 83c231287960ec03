//! The velocity network: diffusers `FluxTransformer2DModel`.

use super::block::{DoubleBlock, SingleBlock};
use super::embed::TimeTextEmbed;
use super::rope::{Angles, Rope};
use super::{FluxConfig, OriginalNames, PATCH, pack, unpack};
use crate::init::Init;
use crate::linears::Linears;
use crate::lora::Lora;
use crate::nn::{LayerNorm, Linear};
use crate::transformer::{AdaNorm, modulate};
use crate::weights::Scope;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// diffusers `FluxTransformer2DModel`, checkpoint `transformer/diffusion_pytorch_model*.safetensors`.
pub struct Flux {
    config: FluxConfig,
    rope: Rope,
    time_text_embed: TimeTextEmbed,
    context_embedder: Linear,
    x_embedder: Linear,
    pub(super) blocks: Vec<DoubleBlock>,
    pub(super) singles: Vec<SingleBlock>,
    norm_out: AdaNorm,
    proj_out: Linear,
    plain: LayerNorm,
}

/// Where a velocity is asked for.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The latent, `[B, C, H, W]`, sides even ([`FluxConfig::check_latent`]).
    pub latent: &'a Tensor,
    /// 1000 sigma, `[B]`, a float.
    pub timestep: &'a Tensor,
    /// Text tokens, `[B, L, joint_attention_dim]`.
    pub context: &'a Tensor,
    /// Pooled text, `[B, pooled_projection_dim]`.
    pub pooled: &'a Tensor,
    /// The guidance that is an input of the network ([`FluxConfig::guidance`]); one without `guidance_embeds` has none.
    pub guidance: f64,
}

/// What enters the first block.
pub(super) struct Entered {
    /// Image tokens, `[B, N, D]`.
    pub(super) x: Tensor,
    /// Text tokens, `[B, L, D]`.
    pub(super) text: Tensor,
    /// Activated conditioning, `[B, D]`.
    pub(super) cond: Tensor,
}

impl Flux {
    /// Takes its tensors from `scope` (usually the root of a set of weights). Fresh weights start as DiT's do: blocks
    /// are the identity and the velocity is zero.
    ///
    /// # Errors
    /// A configuration that is not supported; a tensor that is missing or has another shape.
    pub fn new(scope: &Scope, config: &FluxConfig) -> Result<Flux> {
        config.check()?;
        let d = config.width();
        let layer = |name: &str, d_in: i64| Linear::new(&scope.sub(name), d_in, d, true, Init::Xavier);
        let (double, single) = (scope.sub("transformer_blocks"), scope.sub("single_transformer_blocks"));
        Ok(Flux {
            rope: Rope::new(config, scope.device()),
            time_text_embed: TimeTextEmbed::new(&scope.sub("time_text_embed"), config)?,
            context_embedder: layer("context_embedder", config.joint_attention_dim)?,
            x_embedder: layer("x_embedder", config.in_channels)?,
            blocks: (0..config.num_layers).map(|i| DoubleBlock::new(&double.sub(i), config)).collect::<Result<_>>()?,
            singles: (0..config.num_single_layers)
                .map(|i| SingleBlock::new(&single.sub(i), config))
                .collect::<Result<_>>()?,
            norm_out: AdaNorm::new(&scope.sub("norm_out"), d, 2)?,
            proj_out: Linear::new(&scope.sub("proj_out"), d, config.channels_out(), true, Init::Zeros)?,
            plain: LayerNorm::plain(d, 1e-6),
            config: config.clone(),
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &FluxConfig {
        &self.config
    }

    /// The kind in which the network computes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.proj_out.w.kind()
    }

    /// Where the network lives.
    #[must_use]
    pub fn device(&self) -> Device {
        self.proj_out.w.device()
    }

    /// All linear layers, in the order of the checkpoint's modules.
    #[must_use]
    pub fn linears(&self) -> Linears {
        let mut out = Vec::new();
        self.time_text_embed.linears(&mut out);
        out.extend([self.context_embedder.shape(), self.x_embedder.shape()]);
        self.blocks.iter().for_each(|b| b.linears(&mut out));
        self.singles.iter().for_each(|b| b.linears(&mut out));
        self.norm_out.linears(&mut out);
        out.push(self.proj_out.shape());
        Linears::named(out, &OriginalNames)
    }

    /// The velocity, of the kind and shape of the latent.
    pub fn forward(&self, at: At, lora: Option<&Lora>) -> Tensor {
        let Entered { mut x, mut text, cond } = self.enter(at, lora);
        let angles = self.angles(at);
        for block in &self.blocks {
            (x, text) = block.forward(x, text, &cond, &angles, lora);
        }
        let mut both = Tensor::cat(&[&text, &x], 1);
        for block in &self.singles {
            both = block.forward(both, &cond, &angles, lora);
        }
        self.leave(&both, &cond, at, lora)
    }

    pub(super) fn enter(&self, at: At, lora: Option<&Lora>) -> Entered {
        let kind = self.kind();
        let guidance = Tensor::full_like(&at.timestep.to_kind(Kind::Float), at.guidance);
        // Every use of the conditioning is behind the same activation.
        let cond = self.time_text_embed.forward(at.timestep, &guidance, &at.pooled.to_kind(kind), lora).silu();
        Entered {
            x: self.x_embedder.forward(&pack(&at.latent.to_kind(kind)), lora),
            text: self.context_embedder.forward(&at.context.to_kind(kind), lora),
            cond,
        }
    }

    pub(super) fn angles(&self, at: At) -> Angles {
        let size = at.latent.size();
        self.rope.angles(at.context.size()[1], size[2] / PATCH, size[3] / PATCH)
    }

    /// The velocity from text and image as the last block gives them, `[B, L + N, D]`.
    pub(super) fn leave(&self, both: &Tensor, cond: &Tensor, at: At, lora: Option<&Lora>) -> Tensor {
        let (size, text) = (at.latent.size(), at.context.size()[1]);
        let x = both.narrow(1, text, both.size()[1] - text);
        let m = self.norm_out.parts(cond, lora);
        let y = self.proj_out.forward(&modulate(&self.plain.forward(&x), &m[1], &m[0]), lora);
        unpack(&y, size[2], size[3]).to_kind(at.latent.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::super::lora_config;
    use super::*;
    use crate::lora::Lora;
    use crate::weights::Weights;

    fn small(guidance_embeds: bool) -> FluxConfig {
        FluxConfig {
            num_layers: 2,
            num_single_layers: 3,
            num_attention_heads: 2,
            attention_head_dim: 8,
            axes_dims_rope: vec![2, 2, 4],
            joint_attention_dim: 12,
            pooled_projection_dim: 6,
            guidance_embeds,
            ..FluxConfig::default()
        }
    }

    #[test]
    fn the_layers_are_those_of_the_network() {
        for guidance_embeds in [false, true] {
            let config = small(guidance_embeds);
            let network = Flux::new(&Weights::new_random(1, Device::Cpu).root(), &config).unwrap();
            assert_eq!(config.linears()[..], network.linears()[..]);
        }
    }

    #[test]
    fn the_parameters_are_those_of_the_network() {
        let weights = Weights::new_random(1, Device::Cpu);
        Flux::new(&weights.root(), &small(true)).unwrap();
        let taken: usize = weights.tensors().iter().map(|(_, t)| t.numel()).sum();
        assert_eq!(small(true).parameters(), taken as u64);
    }

    #[test]
    fn targets_are_flow_grpo_s() {
        let lora = Lora::init(&lora_config(2, 4.0), &small(true).linears(), 1, Device::Cpu).unwrap();
        // Twelve in each double block, q, k and v in each single one.
        assert_eq!(lora.modules().count(), 2 * 12 + 3 * 3);
        assert!(lora.pair("single_transformer_blocks.2.attn.to_v").is_some());
        assert!(lora.pair("single_transformer_blocks.2.proj_mlp").is_none());
    }
}
