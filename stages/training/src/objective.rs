//! What a training round is, whatever the method.

pub use opdflow_spec::objective::*;

use crate::State;
use anyhow::Result;
use tch::Tensor;

/// A report of these names, each with its number. Methods keep the names in constants, so that what can be watched is known
/// before anything runs.
#[must_use]
pub fn named<const N: usize>(names: [&str; N], values: [f64; N]) -> Report {
    names.into_iter().map(str::to_owned).zip(values).collect()
}

/// A method: it turns the current parameters into gradients. The one training loop ([`crate::train`]) does the rest.
pub trait Objective {
    /// Optimizer steps in round `round`.
    fn updates(&self, _round: u64) -> usize {
        1
    }

    /// Factor on the learning rate in round `round`.
    fn rate(&self, _round: u64) -> f64 {
        1.0
    }

    /// Gradients of a round, each of one image at one noise level, over all updates: the measure by which methods are
    /// given equal budgets. 0 where it is not known.
    fn gradients(&self) -> u64 {
        0
    }

    /// Adds the gradient of update `update` of round `round` to the parameters' `.grad`. What a round does depends on
    /// the seed, `round` and the state only, never on what was called before.
    ///
    /// # Errors
    /// A reward that cannot be computed.
    fn accumulate(&mut self, round: u64, update: usize) -> Result<Report>;

    /// Called once the round's last optimizer step is taken.
    fn after(&mut self, _round: u64) {}

    /// What must be saved beside parameters and optimizer, such as the old policy.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Takes over what [`Self::state`] gave.
    ///
    /// # Errors
    /// Something is missing or of another shape.
    fn restore(&mut self, _state: &State) -> Result<()> {
        Ok(())
    }
}
