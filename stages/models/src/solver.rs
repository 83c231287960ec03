//! Steps of sampling on tensors. Their numbers: [`Solver::step`].

pub use opdflow_spec::solver::*;

use tch::Tensor;

/// What a step does to a state.
pub trait TakeStep {
    /// Mean of the next state. `x`, `v`: `[B, ...]`.
    fn mean(&self, x: &Tensor, v: &Tensor, before: Option<&Tensor>) -> Tensor;
}

impl TakeStep for Step {
    fn mean(&self, x: &Tensor, v: &Tensor, before: Option<&Tensor>) -> Tensor {
        let mean = x * self.state + v * self.velocity;
        match before {
            Some(x0) if self.before != 0.0 => mean + x0 * self.before,
            _ => mean,
        }
    }
}
