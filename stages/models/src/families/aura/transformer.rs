//! The velocity network: diffusers `AuraFlowTransformer2DModel`.

use super::block::{JointBlock, SingleBlock};
use super::embed::{PatchEmbed, TimeEmbed, unpatched};
use super::{AuraConfig, OriginalNames, REGISTERS};
use crate::init::Init;
use crate::linears::Linears;
use crate::lora::Lora;
use crate::nn::Linear;
use crate::transformer::modulate;
use crate::weights::Scope;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// diffusers `AuraFlowTransformer2DModel`, checkpoint `transformer/diffusion_pytorch_model*.safetensors`.
pub struct Aura {
    config: AuraConfig,
    patches: PatchEmbed,
    context_embedder: Linear,
    time: TimeEmbed,
    /// `[1, 8, D]`.
    registers: Tensor,
    pub(super) joint: Vec<JointBlock>,
    pub(super) singles: Vec<SingleBlock>,
    norm_out: Linear,
    proj_out: Linear,
}

/// Where a velocity is asked for.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The latent, `[B, C, H, W]`, as [`AuraConfig::check_latent`] takes it.
    pub latent: &'a Tensor,
    /// The noise level, `[B]`, a float from 0 to 1.
    pub time: &'a Tensor,
    /// Text tokens, `[B, L, joint_attention_dim]`; those that are none are zero.
    pub context: &'a Tensor,
}

/// What enters the first block.
pub(super) struct Entered {
    /// Image tokens, `[B, N, D]`.
    pub(super) x: Tensor,
    /// Registers and text tokens, `[B, 8 + L, D]`.
    pub(super) text: Tensor,
    /// Activated conditioning, `[B, D]`.
    pub(super) cond: Tensor,
}

impl Aura {
    /// Takes its tensors from `scope` (usually the root of a set of weights). Fresh weights start as DiT's do: blocks
    /// are the identity and the velocity is zero.
    ///
    /// # Errors
    /// A configuration that is not supported; a tensor that is missing or has another shape.
    pub fn new(scope: &Scope, config: &AuraConfig) -> Result<Aura> {
        config.check()?;
        let d = config.width();
        let bare = |name: &str, d_in: i64, d_out: i64, init| Linear::new(&scope.sub(name), d_in, d_out, false, init);
        let (joint, single) = (scope.sub("joint_transformer_blocks"), scope.sub("single_transformer_blocks"));
        Ok(Aura {
            patches: PatchEmbed::new(&scope.sub("pos_embed"), config)?,
            context_embedder: bare("context_embedder", config.joint_attention_dim, d, Init::Xavier)?,
            time: TimeEmbed::new(&scope.sub("time_step_proj"), config)?,
            registers: scope.get("register_tokens", &[1, REGISTERS, d], Init::Normal(0.02))?,
            joint: (0..config.num_mmdit_layers)
                .map(|i| JointBlock::new(&joint.sub(i), config))
                .collect::<Result<_>>()?,
            singles: (0..config.num_single_dit_layers)
                .map(|i| SingleBlock::new(&single.sub(i), config))
                .collect::<Result<_>>()?,
            norm_out: bare("norm_out.linear", d, 2 * d, Init::Zeros)?,
            proj_out: bare("proj_out", d, config.patch(), Init::Zeros)?,
            config: config.clone(),
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &AuraConfig {
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

    /// All linear layers, in the order of [`AuraConfig::linears`].
    #[must_use]
    pub fn linears(&self) -> Linears {
        let mut out = Vec::new();
        self.patches.linears(&mut out);
        out.push(self.context_embedder.shape());
        self.time.linears(&mut out);
        self.joint.iter().for_each(|b| b.linears(&mut out));
        self.singles.iter().for_each(|b| b.linears(&mut out));
        out.extend([&self.norm_out, &self.proj_out].map(Linear::shape));
        Linears::named(out, &OriginalNames)
    }

    /// The velocity, of the kind and shape of the latent.
    pub fn forward(&self, at: At, lora: Option<&Lora>) -> Tensor {
        let Entered { mut x, mut text, cond } = self.enter(at, lora);
        for block in &self.joint {
            (x, text) = block.forward(&x, &text, &cond, lora);
        }
        let mut both = Tensor::cat(&[&text, &x], 1);
        for block in &self.singles {
            both = block.forward(&both, &cond, lora);
        }
        self.leave(&both, &cond, at, lora)
    }

    pub(super) fn enter(&self, at: At, lora: Option<&Lora>) -> Entered {
        let kind = self.kind();
        let words = self.context_embedder.forward(&at.context.to_kind(kind), lora);
        let registers = self.registers.expand([words.size()[0], -1, -1], false);
        Entered {
            x: self.patches.forward(&at.latent.to_kind(kind), lora),
            text: Tensor::cat(&[&registers, &words], 1),
            // Every use of the conditioning is behind the same activation.
            cond: self.time.forward(at.time, kind, lora).silu(),
        }
    }

    /// The velocity from text and image as the last block gives them, `[B, 8 + L + N, D]`.
    pub(super) fn leave(&self, both: &Tensor, cond: &Tensor, at: At, lora: Option<&Lora>) -> Tensor {
        let (size, text) = (at.latent.size(), REGISTERS + at.context.size()[1]);
        let x = both.narrow(1, text, both.size()[1] - text);
        let m = self.norm_out.forward(cond, lora).unsqueeze(1).chunk(2, -1);
        let y = self.proj_out.forward(&modulate(&x, &m[1], &m[0]), lora);
        unpatched(&y, size[2], size[3]).to_kind(at.latent.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Weights;

    fn small() -> AuraConfig {
        AuraConfig {
            num_mmdit_layers: 2,
            num_single_dit_layers: 3,
            num_attention_heads: 2,
            attention_head_dim: 8,
            caption_projection_dim: 16,
            joint_attention_dim: 12,
            pos_embed_max_size: 16,
            ..AuraConfig::default()
        }
    }

    #[test]
    fn layers_and_parameters_are_those_of_the_network() {
        let weights = Weights::new_random(1, Device::Cpu);
        let network = Aura::new(&weights.root(), &small()).unwrap();
        assert_eq!(small().linears()[..], network.linears()[..]);
        let taken: usize = weights.tensors().iter().map(|(_, t)| t.numel()).sum();
        assert_eq!(small().parameters(), taken as u64);
    }

    #[test]
    fn a_fresh_network_has_no_velocity_and_keeps_the_latent_s_kind() {
        let weights = Weights::new_random(1, Device::Cpu);
        let network = Aura::new(&weights.root(), &small()).unwrap();
        let latent = Tensor::randn([2, 4, 4, 6], (Kind::Float, Device::Cpu));
        let (time, context) =
            (Tensor::from_slice(&[1.0f32, 0.3]), Tensor::randn([2, 5, 12], (Kind::Float, Device::Cpu)));
        let out = network.forward(At { latent: &latent, time: &time, context: &context }, None);
        assert_eq!((out.size(), out.kind()), (latent.size(), Kind::Float));
        assert_eq!(out.count_nonzero(None).int64_value(&[]), 0);
    }
}
