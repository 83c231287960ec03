//! The velocity field that sampling and training see: a network, an adapter, a guidance scale.

use crate::condition::Condition;
use crate::family::Guided;
use crate::lora::Lora;
use crate::network::{Backward, Input, Network};
use tch::{Kind, Tensor};

/// Guidance. Classifier-free it is `v = v_empty + scale (v_prompt - v_empty)`, and with scale 1 the empty prompt is not run; a
/// network that takes the scale as an input never runs it.
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
    pub model: &'a dyn Network,
    /// The adapter; `None` is the base.
    pub lora: Option<&'a Lora>,
    /// Guidance.
    pub guidance: Guidance<'a>,
}

/// A velocity to learn from.
pub struct Seen<'a> {
    /// The velocity, `[B, C, H, W]` f32, with a gradient.
    pub velocity: Tensor,
    /// The network's own result and what takes its gradient, if its inside is not kept.
    network: Option<(Tensor, Backward<'a>)>,
}

impl Seen<'_> {
    /// Adds the gradient of `loss`, a scalar made of [`Seen::velocity`], to the adapter's.
    pub fn backward(self, loss: &Tensor) {
        loss.backward();
        if let Some((out, backward)) = self.network
            && out.grad().defined()
        {
            backward(&out.grad());
        }
    }
}

impl<'a> Field<'a> {
    /// Velocity at `x`, `[B, C, H, W]`, at noise levels `sigma`, `[B]`; same shape as `x`, f32. With classifier-free guidance
    /// both branches run as one batch, and a gradient flows through both.
    pub fn velocity(&self, x: &Tensor, sigma: &Tensor, condition: &Condition) -> Tensor {
        self.ask(x, sigma, condition, |input| self.guided(&self.model.velocity(input, self.lora)))
    }

    /// [`Self::velocity`] to learn from. With `gradient_checkpointing` the network's inside is not kept but computed
    /// once more for the gradient: less memory, more time, the same numbers.
    pub fn seen(&self, x: &Tensor, sigma: &Tensor, condition: &Condition, gradient_checkpointing: bool) -> Seen<'a> {
        if !gradient_checkpointing {
            return Seen { velocity: self.velocity(x, sigma, condition), network: None };
        }
        let Field { model, lora, .. } = *self;
        let (out, backward) = self.ask(x, sigma, condition, |input| model.velocity_to_recompute(input, lora));
        let out = out.set_requires_grad(true);
        Seen { velocity: self.guided(&out), network: Some((out, backward)) }
    }

    /// [`Self::velocity`] at one noise level for the whole batch.
    pub fn velocity_at(&self, x: &Tensor, sigma: f64, condition: &Condition) -> Tensor {
        self.velocity(x, &level(x, sigma), condition)
    }

    /// [`Self::seen`] at one noise level for the whole batch.
    pub fn seen_at(&self, x: &Tensor, sigma: f64, condition: &Condition, gradient_checkpointing: bool) -> Seen<'a> {
        self.seen(x, &level(x, sigma), condition, gradient_checkpointing)
    }

    /// Whether each forward runs for the empty prompt too.
    fn twice(&self) -> bool {
        self.model.architecture().guided().rows(self.guidance.scale) == 2
    }

    /// What the network is asked; with classifier-free guidance the empty prompt's rows come first.
    fn ask<R>(&self, x: &Tensor, sigma: &Tensor, condition: &Condition, of: impl FnOnce(&Input) -> R) -> R {
        let guidance = match self.model.architecture().guided() {
            Guided::Classifier => None,
            Guided::Input => Some(self.guidance.scale),
        };
        if !self.twice() {
            return of(&Input { state: x, sigma, condition, guidance });
        }
        let both = |a: &Tensor| Tensor::cat(&[a, a], 0);
        let rows = Condition::cat(&[&self.guidance.empty.repeated(condition.len()), condition]);
        of(&Input { state: &both(x), sigma: &both(sigma), condition: &rows, guidance })
    }

    /// The velocity of what the network gives, f32.
    fn guided(&self, out: &Tensor) -> Tensor {
        let v = out.to_kind(Kind::Float);
        if !self.twice() {
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
