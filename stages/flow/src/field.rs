//! The velocity field that sampling and training see: a network, an adapter, a guidance scale.

use crate::lora::Lora;
use crate::mmdit::{Mmdit, Tape};
use crate::schedule::TRAIN_STEPS;
use crate::text::embed::Embedded;
use tch::{Kind, Tensor};

/// Classifier-free guidance: `v = v_empty + scale (v_prompt - v_empty)`. With scale 1 the empty prompt is not run.
#[derive(Clone, Copy)]
pub struct Guidance<'a> {
    /// The scale.
    pub scale: f64,
    /// The encoded empty prompt, one row. It is not zeros.
    pub empty: &'a Embedded,
}

/// A network with the adapter and the guidance that it is run with.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// The network.
    pub model: &'a Mmdit,
    /// The adapter; `None` is the base.
    pub lora: Option<&'a Lora>,
    /// Guidance.
    pub guidance: Guidance<'a>,
}

/// A velocity to learn from.
pub struct Seen<'a> {
    /// The velocity, `[B, C, H, W]` f32, with a gradient.
    pub velocity: Tensor,
    /// The network's own result and what it left behind, if its inside is not kept.
    tape: Option<(Field<'a>, Tensor, Tape)>,
}

impl Seen<'_> {
    /// Adds the gradient of `loss`, a scalar made of [`Seen::velocity`], to the adapter's.
    pub fn backward(self, loss: &Tensor) {
        loss.backward();
        if let Some((field, out, tape)) = self.tape
            && out.grad().defined()
        {
            field.model.backward(tape, &out.grad(), field.lora);
        }
    }
}

impl<'a> Field<'a> {
    /// Velocity at `x`, `[B, C, H, W]`, at noise levels `sigma`, `[B]`; same shape as `x`, f32. With guidance both
    /// branches run as one batch, and a gradient flows through both.
    pub fn velocity(&self, x: &Tensor, sigma: &Tensor, condition: &Embedded) -> Tensor {
        let [x, time, context, pooled] = self.inputs(x, sigma, condition);
        self.guided(&self.model.forward(&x, &time, &context, &pooled, self.lora))
    }

    /// [`Self::velocity`] to learn from. With `recompute` the network's inside is not kept but computed once more for the
    /// gradient: less memory, more time, the same numbers.
    pub fn seen(&self, x: &Tensor, sigma: &Tensor, condition: &Embedded, recompute: bool) -> Seen<'a> {
        if !recompute {
            return Seen { velocity: self.velocity(x, sigma, condition), tape: None };
        }
        let [x, time, context, pooled] = self.inputs(x, sigma, condition);
        let (out, tape) = self.model.forward_taped(&x, &time, &context, &pooled, self.lora);
        let out = out.set_requires_grad(true);
        Seen { velocity: self.guided(&out), tape: Some((*self, out, tape)) }
    }

    /// [`Self::velocity`] at one noise level for the whole batch.
    pub fn velocity_at(&self, x: &Tensor, sigma: f64, condition: &Embedded) -> Tensor {
        self.velocity(x, &level(x, sigma), condition)
    }

    /// [`Self::seen`] at one noise level for the whole batch.
    pub fn seen_at(&self, x: &Tensor, sigma: f64, condition: &Embedded, recompute: bool) -> Seen<'a> {
        self.seen(x, &level(x, sigma), condition, recompute)
    }

    /// Latent, time, context and pooled text for the network; with guidance the empty prompt's rows come first.
    fn inputs(&self, x: &Tensor, sigma: &Tensor, condition: &Embedded) -> [Tensor; 4] {
        let time = sigma * TRAIN_STEPS;
        if self.guidance.scale == 1.0 {
            return [x.shallow_clone(), time, condition.context.shallow_clone(), condition.pooled.shallow_clone()];
        }
        let n = condition.len();
        let empty = self.guidance.empty;
        let expand = |t: &Tensor| {
            let mut shape = t.size();
            shape[0] = n;
            t.expand(shape, false)
        };
        let both = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        [
            both(x, x),
            both(&time, &time),
            both(&expand(&empty.context), &condition.context),
            both(&expand(&empty.pooled), &condition.pooled),
        ]
    }

    /// The velocity of what the network gives, f32.
    fn guided(&self, out: &Tensor) -> Tensor {
        let v = out.to_kind(Kind::Float);
        if self.guidance.scale == 1.0 {
            return v;
        }
        let n = v.size()[0] / 2;
        let (free, guided) = (v.narrow(0, 0, n), v.narrow(0, n, n));
        &free + (guided - &free) * self.guidance.scale
    }
}

/// One noise level for each row of `x`.
fn level(x: &Tensor, sigma: f64) -> Tensor {
    Tensor::full([x.size()[0]], sigma, (Kind::Float, x.device()))
}
