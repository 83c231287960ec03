//! The layers that the models are built of. Each holds its tensors and nothing else; an adapter is an argument.

pub use crate::linears::LinearShape;
pub use opdflow_spec::nn::*;

use crate::init::Init;
use crate::lora::Lora;
use crate::weights::Scope;
use anyhow::Result;
use tch::Tensor;

/// `torch.nn.Linear`: weight `[out, in]`, bias `[out]`.
pub struct Linear {
    /// Full module path, as in the checkpoint, e.g. `transformer_blocks.0.attn.to_q`.
    pub name: String,
    pub(crate) w: Tensor,
    pub(crate) b: Option<Tensor>,
}

impl Linear {
    /// Takes `weight` and, if asked, `bias` (fresh: zero) from `scope`.
    pub fn new(scope: &Scope, d_in: i64, d_out: i64, bias: bool, init: Init) -> Result<Linear> {
        let w = scope.get("weight", &[d_out, d_in], init)?;
        let b = if bias { Some(scope.get("bias", &[d_out], Init::Zeros)?) } else { None };
        Ok(Linear { name: scope.path().to_string(), w, b })
    }

    /// `[.., in]` to `[.., out]`, with the adapter's part added where it has one for this layer.
    ///
    /// libtorch multiplies rows that do not lie side by side by another kernel where the weight takes a gradient than where it
    /// does not: all rows at once, or one product for each of the batch, which may round otherwise. Rows side by side are
    /// always multiplied at once. So a rollout and the training pass over it round alike, and so do base and adapter.
    pub fn forward(&self, x: &Tensor, lora: Option<&Lora>) -> Tensor {
        let x = &x.contiguous();
        match lora.and_then(|l| l.pair(&self.name).map(|p| (l, p))) {
            None => x.linear(&self.w, self.b.as_ref()),
            Some((l, pair)) => l.linear(x, &self.w, self.b.as_ref(), pair),
        }
    }

    /// Name and size.
    pub fn shape(&self) -> LinearShape {
        let size = self.w.size();
        LinearShape { name: self.name.clone(), d_in: size[1], d_out: size[0] }
    }
}

/// `torch.nn.LayerNorm` over the last dimension, with or without weight and bias.
pub struct LayerNorm {
    affine: Option<(Tensor, Tensor)>,
    dim: i64,
    eps: f64,
}

impl LayerNorm {
    /// With `weight` and `bias` from `scope`.
    pub fn new(scope: &Scope, dim: i64, eps: f64) -> Result<LayerNorm> {
        let affine = Some((scope.get("weight", &[dim], Init::Ones)?, scope.get("bias", &[dim], Init::Zeros)?));
        Ok(LayerNorm { affine, dim, eps })
    }

    /// `elementwise_affine=False`: no tensors.
    pub fn plain(dim: i64, eps: f64) -> LayerNorm {
        LayerNorm { affine: None, dim, eps }
    }

    /// Any `[.., dim]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (w, b) = self.affine.as_ref().map_or((None, None), |(w, b)| (Some(w), Some(b)));
        x.layer_norm([self.dim], w, b, self.eps, false)
    }
}

/// Root-mean-square norm over the last dimension with a weight: diffusers `RMSNorm`, transformers `T5LayerNorm`.
/// The mean is taken in f32 whatever the input.
pub struct RmsNorm {
    pub(crate) w: Tensor,
    pub(crate) eps: f64,
}

impl RmsNorm {
    /// Takes `weight` from `scope`.
    pub fn new(scope: &Scope, dim: i64, eps: f64) -> Result<RmsNorm> {
        Ok(RmsNorm { w: scope.get("weight", &[dim], Init::Ones)?, eps })
    }

    /// Any `[.., dim]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.rms_norm([self.w.size()[0]], Some(&self.w), self.eps)
    }
}

/// `torch.nn.GroupNorm` over `[B, C, ..]`.
pub struct GroupNorm {
    w: Tensor,
    b: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    /// Takes `weight` and `bias` from `scope`.
    pub fn new(scope: &Scope, groups: i64, channels: i64, eps: f64) -> Result<GroupNorm> {
        let (w, b) = (scope.get("weight", &[channels], Init::Ones)?, scope.get("bias", &[channels], Init::Zeros)?);
        Ok(GroupNorm { w, b, groups, eps })
    }

    /// `[B, C, ..]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.group_norm(self.groups, Some(&self.w), Some(&self.b), self.eps, false)
    }
}

/// `torch.nn.Conv2d` with a square kernel, with or without a bias.
pub struct Conv2d {
    w: Tensor,
    b: Option<Tensor>,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// Takes `weight` `[out, in, k, k]` and `bias` `[out]` from `scope`.
    pub fn new(scope: &Scope, c_in: i64, c_out: i64, kernel: i64, stride: i64, padding: i64) -> Result<Conv2d> {
        let w = scope.get("weight", &[c_out, c_in, kernel, kernel], Init::FanIn)?;
        let b = scope.get("bias", &[c_out], Init::Uniform(1.0 / ((c_in * kernel * kernel) as f64).sqrt()))?;
        Ok(Conv2d { w, b: Some(b), stride, padding })
    }

    /// Non-overlapping patches of `size` by `size` pixels, as vision transformers begin: no padding.
    pub fn patches(scope: &Scope, c_in: i64, c_out: i64, size: i64, bias: bool) -> Result<Conv2d> {
        if bias {
            return Conv2d::new(scope, c_in, c_out, size, size, 0);
        }
        let w = scope.get("weight", &[c_out, c_in, size, size], Init::FanIn)?;
        Ok(Conv2d { w, b: None, stride: size, padding: 0 })
    }

    /// `[B, in, H, W]` to `[B, out, H', W']`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.conv2d(&self.w, self.b.as_ref(), [self.stride; 2], [self.padding; 2], [1, 1], 1)
    }
}

/// `torch.nn.Embedding`: weight `[n, dim]`.
pub struct Embedding {
    pub(crate) w: Tensor,
}

impl Embedding {
    /// Takes `weight` from `scope`.
    pub fn new(scope: &Scope, n: i64, dim: i64, init: Init) -> Result<Embedding> {
        Ok(Embedding { w: scope.get("weight", &[n, dim], init)? })
    }

    /// Int64 ids of any shape to `[.., dim]`.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.w, ids, -1, false, false)
    }
}

/// An activation function at work.
pub trait Activate {
    /// Element by element.
    fn forward(self, x: &Tensor) -> Tensor;
}

impl Activate for Activation {
    fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Activation::QuickGelu => x * (x * 1.702).sigmoid(),
            Activation::Gelu => x.gelu("none"),
            Activation::GeluTanh => x.gelu("tanh"),
            Activation::Relu => x.relu(),
            Activation::Silu => x.silu(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::LoraConfig;
    use crate::rng::normal;
    use crate::weights::Weights;
    use tch::Device;

    /// Part of a longer sequence of tokens, as attention's output projections get: the same numbers as those tokens alone,
    /// whether or not the weight takes a gradient, to the bit with whatever kernels the processor has.
    #[test]
    fn where_tokens_lie_and_who_takes_gradients_change_no_bit() {
        let width = 512;
        let weights = Weights::new_dense(1, Device::Cpu);
        let layer = Linear::new(&weights.root().sub("l"), width, width, true, Init::Xavier).unwrap();
        let tokens = normal(&[5, 9, width], 2, Device::Cpu);
        for (from, count) in [(0, 4), (4, 5)] {
            let part = tokens.narrow(1, from, count);
            let alone = layer.forward(&part.contiguous(), None);
            for trained in [false, true] {
                weights.set_trainable(trained, |_| true);
                assert_eq!(layer.forward(&part, None), alone, "from {from}, trained {trained}");
            }
            weights.set_trainable(false, |_| true);
            // Merged, a fresh adapter leaves the weight as it is, but takes a gradient.
            let config = LoraConfig { rank: 64, alpha: 1.0, target_modules: vec!["l".into()] };
            let lora = Lora::init(&config, &[layer.shape()], 3, Device::Cpu).unwrap();
            assert!(lora.merged(&layer.w, lora.pair("l").unwrap()).is_some_and(|w| w.requires_grad()));
            assert_eq!(layer.forward(&part, Some(&lora)), alone, "from {from}, with an adapter");
        }
    }
}
