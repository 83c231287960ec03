//! The velocity field that sampling and training see: a network, an adapter, a guidance scale.

use crate::schedule::TRAIN_STEPS;
use crate::lora::Lora;
use crate::mmdit::Mmdit;
use tch::{Kind, Tensor};

/// What the text encoders give for a batch of prompts.
pub struct Condition {
    /// `[B, L, D]`: states of all tokens.
    pub context: Tensor,
    /// `[B, P]`: pooled states.
    pub pooled: Tensor,
}

impl Condition {
    /// The rows of `index`, repeats allowed.
    #[must_use]
    pub fn rows(&self, index: &[i64]) -> Self {
        let index = Tensor::from_slice(index).to_device(self.context.device());
        Self { context: self.context.index_select(0, &index), pooled: self.pooled.index_select(0, &index) }
    }
    /// `count` rows from `start`.
    #[must_use]
    pub fn narrow(&self, start: i64, count: i64) -> Self {
        Self { context: self.context.narrow(0, start, count), pooled: self.pooled.narrow(0, start, count) }
    }
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> i64 {
        self.context.size()[0]
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The same tensors again.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { context: self.context.shallow_clone(), pooled: self.pooled.shallow_clone() }
    }
}

/// Classifier-free guidance: `v = v_empty + scale (v_prompt - v_empty)`. With scale 1 the empty prompt is not run.
#[derive(Clone, Copy)]
pub struct Guidance<'a> {
    /// The scale.
    pub scale: f64,
    /// The encoded empty prompt, one row. It is not zeros.
    pub empty: &'a Condition,
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
    #[must_use]
    pub fn velocity(&self, x: &Tensor, sigma: &Tensor, condition: &Condition) -> Tensor {
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
    #[must_use]
    pub fn velocity_at(&self, x: &Tensor, sigma: f64, condition: &Condition) -> Tensor {
        let sigma = Tensor::full([x.size()[0]], sigma, (Kind::Float, x.device()));
        self.velocity(x, &sigma, condition)
    }
}
