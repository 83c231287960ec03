//! Sampling along a schedule, with or without keeping the trajectory.

use crate::condition::Condition;
use crate::field::Field;
use crate::solver::Step;
use crate::solver::TakeStep as _;
use crate::{Schedule, Solver};
use anyhow::Result;
use opdflow_ranks::Ranks;
use std::ops::Range;
use tch::Tensor;

/// A sampled trajectory.
pub struct Rollout {
    /// `steps + 1` states, `[B, C, H, W]` f32; only the last one if the trajectory was not kept.
    pub states: Vec<Tensor>,
    /// Means of the steps, `mu_old` of the ratios. Empty if the trajectory was not kept.
    pub means: Vec<Tensor>,
    /// The standard normal noise of each step. Empty if the trajectory was not kept; undefined tensors where no noise
    /// was added.
    pub noises: Vec<Tensor>,
}

impl Rollout {
    /// The last state: latents of the images.
    pub fn last(&self) -> &Tensor {
        &self.states[self.states.len() - 1]
    }
}

/// Whether a rollout keeps its trajectory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All states, means and noises.
    All,
    /// The last state.
    Last,
}

/// What a rollout goes along.
pub struct RolloutOptions<'a> {
    /// Noise levels.
    pub schedule: &'a Schedule,
    /// Solver.
    pub solver: &'a Solver,
    /// The steps that the solver takes; Euler's ODE takes the others. All are the solver's if absent.
    pub window: Option<Range<usize>>,
    /// What is kept.
    pub keep: Keep,
    /// Largest batch of one forward. It bounds memory and changes nothing else.
    pub micro: i64,
    /// The processes that share the batches of each step. All have the whole trajectory.
    pub ranks: Ranks,
}

impl RolloutOptions<'_> {
    /// Step `j`: the solver's, or Euler's outside of the window.
    #[must_use]
    pub fn step(&self, j: usize) -> Step {
        let own = self.window.as_ref().is_none_or(|w| w.contains(&j));
        if own { self.solver.step(self.schedule, j) } else { Solver::default().step(self.schedule, j) }
    }
}

/// Samples from `start` (noise, `[B, C, H, W]`) without gradients. `draw` gives the standard normal noise of a step, in
/// the shape of `start`; it is asked only at steps that add noise.
///
/// # Errors
/// Another process of the stage is gone.
pub fn rollout(
    field: &Field,
    condition: &Condition,
    start: &Tensor,
    along: &RolloutOptions,
    draw: &mut dyn FnMut(usize) -> Tensor,
) -> Result<Rollout> {
    // The guard, not the closure: a panic that unwinds through the closure leaves gradients off.
    let _off = tch::no_grad_guard();
    let mut x = start.shallow_clone();
    let mut before: Option<Tensor> = None;
    let mut trajectory = Rollout { states: Vec::new(), means: Vec::new(), noises: Vec::new() };
    for j in 0..along.schedule.steps() {
        let step = along.step(j);
        let v = in_parts(field, &x, step.sigma, condition, along)?;
        let mean = step.mean(&x, &v, before.as_ref());
        before = matches!(along.solver, Solver::Dpm { order: 2 }).then(|| &x - &v * step.sigma);
        let noise = if step.std > 0.0 { draw(j) } else { Tensor::new() };
        let next = if step.std > 0.0 { &mean + &noise * step.std } else { mean.shallow_clone() };
        if along.keep == Keep::All {
            trajectory.states.push(x);
            trajectory.means.push(mean);
            trajectory.noises.push(noise);
        }
        x = next;
    }
    trajectory.states.push(x);
    Ok(trajectory)
}

/// The velocity of a batch, so many rows at a time, of which each process has its part.
fn in_parts(field: &Field, x: &Tensor, sigma: f64, condition: &Condition, along: &RolloutOptions) -> Result<Tensor> {
    let (total, micro, ranks) = (x.size()[0] as usize, along.micro.max(1) as usize, along.ranks);
    if total <= micro && ranks.world() == 1 {
        return Ok(field.velocity_at(x, sigma, condition));
    }
    let own = ranks.own_rows(total, micro);
    let part = |at: usize| {
        let (at, count) = (at as i64, micro.min(own.end - at) as i64);
        field.velocity_at(&x.narrow(0, at, count), sigma, &condition.narrow(at, count))
    };
    let parts: Vec<Tensor> = own.clone().step_by(micro).map(part).collect();
    let rows = if parts.is_empty() { x.narrow(0, 0, 0) } else { Tensor::cat(&parts, 0) };
    ranks.gather_rows(&rows, total, micro)
}
