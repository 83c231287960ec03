//! What the networks of several families are made of, as diffusers has it: query, key and value, attention, norms that the
//! conditioning scales, the feed-forward part, the code of a time, and gradients of one part after another.

use crate::init::Init;
use crate::lora::Lora;
use crate::nn::{Linear, LinearShape, RmsNorm, TIME_CHANNELS};
use crate::weights::Scope;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// The angles of a time code for each unit of time, `[TIME_CHANNELS / 2]`, f32.
pub(crate) fn time_frequencies(device: Device) -> Tensor {
    let half = TIME_CHANNELS / 2;
    let exponent = Tensor::arange(half, (Kind::Float, Device::Cpu)) * -(10000f64.ln()) / half as f64;
    exponent.exp().to_device(device)
}

/// Times `[B]` as cosines and sines, `[B, TIME_CHANNELS]`: made in f32, given as `kind`.
pub(crate) fn time_code(time: &Tensor, frequencies: &Tensor, kind: Kind) -> Tensor {
    let angle = time.to_kind(Kind::Float).unsqueeze(1) * frequencies;
    Tensor::cat(&[angle.cos(), angle.sin()], 1).to_kind(kind)
}

/// Query, key and value of one stream of tokens.
pub(crate) struct Projection {
    q: Linear,
    k: Linear,
    v: Linear,
    norms: Option<(RmsNorm, RmsNorm)>,
    heads: i64,
}

impl Projection {
    pub(crate) fn new(
        scope: &Scope,
        names: [&str; 3],
        norms: Option<[&str; 2]>,
        d: i64,
        heads: i64,
    ) -> Result<Projection> {
        let layer = |name: &str| Linear::new(&scope.sub(name), d, d, true, Init::Xavier);
        let norm = |name: &str| RmsNorm::new(&scope.sub(name), d / heads, 1e-6);
        let norms = norms.map(|[q, k]| Ok::<_, anyhow::Error>((norm(q)?, norm(k)?))).transpose()?;
        Ok(Projection { q: layer(names[0])?, k: layer(names[1])?, v: layer(names[2])?, norms, heads })
    }

    /// `[B, N, D]` to three of `[B, N, heads, D / heads]`.
    pub(crate) fn forward(&self, x: &Tensor, lora: Option<&Lora>) -> [Tensor; 3] {
        let heads = |t: Tensor| t.unflatten(-1, [self.heads, -1]);
        let (q, k) = (heads(self.q.forward(x, lora)), heads(self.k.forward(x, lora)));
        let v = heads(self.v.forward(x, lora));
        match &self.norms {
            Some((nq, nk)) => [nq.forward(&q), nk.forward(&k), v],
            None => [q, k, v],
        }
    }

    pub(crate) fn linears(&self, out: &mut Vec<LinearShape>) {
        out.extend([&self.q, &self.k, &self.v].map(Linear::shape));
    }
}

/// `[B, N, heads, d]` three times to `[B, N, heads d]`. The kernel's output is laid out by token, so the last step copies nothing.
pub(crate) fn attend(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let (q, k, v) = (q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2));
    let y = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, false, None, false);
    y.transpose(1, 2).flatten(2, 3)
}

/// A norm without weights whose output is scaled and shifted by the conditioning: `AdaLayerNormZero`,
/// `SD35AdaLayerNormZeroX` and `AdaLayerNormContinuous` differ in the number and order of the parts alone.
pub(crate) struct AdaNorm {
    linear: Linear,
    parts: i64,
}

impl AdaNorm {
    /// Fresh weights are zero: every block starts as the identity.
    pub(crate) fn new(scope: &Scope, d: i64, parts: i64) -> Result<AdaNorm> {
        Ok(AdaNorm { linear: Linear::new(&scope.sub("linear"), d, parts * d, true, Init::Zeros)?, parts })
    }

    /// The parts, each `[B, 1, D]`, of the activated conditioning `[B, D]`.
    pub(crate) fn parts(&self, cond: &Tensor, lora: Option<&Lora>) -> Vec<Tensor> {
        self.linear.forward(cond, lora).unsqueeze(1).chunk(self.parts, -1)
    }

    pub(crate) fn linears(&self, out: &mut Vec<LinearShape>) {
        out.push(self.linear.shape());
    }
}

/// x (1 + scale) + shift.
pub(crate) fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Tensor {
    shift.addcmul(x, &(scale + 1.0))
}

/// diffusers `FeedForward` with `gelu-approximate` and four times the width inside.
pub(crate) struct FeedForward {
    up: Linear,
    down: Linear,
}

impl FeedForward {
    pub(crate) fn new(scope: &Scope, d: i64) -> Result<FeedForward> {
        let up = Linear::new(&scope.sub("net.0.proj"), d, 4 * d, true, Init::Xavier)?;
        Ok(FeedForward { up, down: Linear::new(&scope.sub("net.2"), 4 * d, d, true, Init::Xavier)? })
    }

    pub(crate) fn forward(&self, x: &Tensor, lora: Option<&Lora>) -> Tensor {
        self.down.forward(&self.up.forward(x, lora).gelu("tanh"), lora)
    }

    pub(crate) fn linears(&self, out: &mut Vec<LinearShape>) {
        out.extend([self.up.shape(), self.down.shape()]);
    }
}

/// A tensor to take a gradient at, with nothing behind it.
pub(crate) fn leaf(t: &Tensor) -> Tensor {
    t.detach().set_requires_grad(true)
}

/// The sum that has `grad` as its gradient at `t`.
pub(crate) fn pull(t: &Tensor, grad: &Tensor) -> Tensor {
    (t * grad).sum(Kind::Float)
}

/// The gradient that has arrived at a leaf; zero if nothing depends on it.
pub(crate) fn arrived(t: &Tensor) -> Tensor {
    let grad = t.grad();
    if grad.defined() { grad } else { t.zeros_like() }
}
