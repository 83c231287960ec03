//! Sampling along a schedule, with or without keeping the way.

use crate::field::Field;
use crate::text::embed::Embedded;
use crate::{Schedule, Solver, rng};
use tch::Tensor;

/// A sampled trajectory.
pub struct Rollout {
    /// `steps + 1` states, `[B, C, H, W]` f32; only the last one if the way was not kept.
    pub states: Vec<Tensor>,
    /// Means of the steps, `mu_old` of the ratios. Empty if the way was not kept.
    pub means: Vec<Tensor>,
    /// The standard normal noise of each step. Empty if the way was not kept; undefined tensors where no noise was added.
    pub noises: Vec<Tensor>,
}

impl Rollout {
    /// The last state: latents of the pictures.
    #[must_use]
    pub fn last(&self) -> &Tensor {
        &self.states[self.states.len() - 1]
    }
}

/// Whether a rollout keeps its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All states, means and noises.
    All,
    /// The last state.
    Last,
}

/// Samples from `start` (noise, `[B, C, H, W]`) without gradients. The noise of step `j` depends on `seed` and `j` alone.
#[must_use]
pub fn rollout(field: &Field, condition: &Embedded, start: &Tensor, schedule: &Schedule, solver: &Solver, seed: u64, keep: Keep) -> Rollout {
    // The guard, not the closure: a panic that unwinds through the closure leaves gradients off.
    let _off = tch::no_grad_guard();
    let mut x = start.shallow_clone();
    let mut before: Option<Tensor> = None;
    let mut way = Rollout { states: Vec::new(), means: Vec::new(), noises: Vec::new() };
    for j in 0..schedule.steps() {
        let step = solver.step(schedule, j);
        let v = field.velocity_at(&x, step.sigma, condition);
        let mean = step.mean(&x, &v, before.as_ref());
        before = matches!(solver, Solver::Dpm { order: 2 }).then(|| &x - &v * step.sigma);
        let noise = if step.std > 0.0 { rng::normal(&x.size(), rng::derive(seed, "step", j as u64), x.device()) } else { Tensor::new() };
        let next = if step.std > 0.0 { &mean + &noise * step.std } else { mean.shallow_clone() };
        if keep == Keep::All {
            way.states.push(x);
            way.means.push(mean);
            way.noises.push(noise);
        }
        x = next;
    }
    way.states.push(x);
    way
}
