//! The velocity field that sampling and training see: a network, an adapter, a guidance scale.

use crate::lora::Lora;
use crate::mmdit::Mmdit;
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

impl Field<'_> {
    /// Velocity at `x`, `[B, C, H, W]`, at noise levels `sigma`, `[B]`; same shape as `x`, f32. With guidance both
    /// branches run as one batch, and a gradient flows through both.
    pub fn velocity(&self, x: &Tensor, sigma: &Tensor, condition: &Embedded) -> Tensor {
        let time = sigma * TRAIN_STEPS;
        if self.guidance.scale == 1.0 {
            return self.model.forward(x, &time, &condition.context, &condition.pooled, self.lora).to_kind(Kind::Float);
        }
        let n = condition.len();
        let empty = self.guidance.empty;
        let expand = |t: &Tensor| {
            let mut shape = t.size();
            shape[0] = n;
            t.expand(shape, false)
        };
        let both = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        let v = self.model.forward(
            &both(x, x),
            &both(&time, &time),
            &both(&expand(&empty.context), &condition.context),
            &both(&expand(&empty.pooled), &condition.pooled),
            self.lora,
        );
        let v = v.to_kind(Kind::Float);
        let (free, guided) = (v.narrow(0, 0, n), v.narrow(0, n, n));
        &free + (guided - &free) * self.guidance.scale
    }

    /// [`Self::velocity`] at one noise level for the whole batch.
    pub fn velocity_at(&self, x: &Tensor, sigma: f64, condition: &Embedded) -> Tensor {
        let sigma = Tensor::full([x.size()[0]], sigma, (Kind::Float, x.device()));
        self.velocity(x, &sigma, condition)
    }
}
