//! A task: prompts, what the text encoders make of them, and a reward for images.

pub use opdflow_spec::task::*;

use anyhow::Result;
use opdflow_models::condition::Condition;
use tch::Tensor;

/// Prompts with a reward.
pub trait Task {
    /// The task's name, for metrics.
    fn name(&self) -> &str;
    /// Settings of its rounds.
    fn settings(&self) -> TaskSettings {
        TaskSettings::default()
    }
    /// Number of prompts, at least 1.
    fn prompts(&self) -> usize;
    /// Encodes the prompts of these indices, one row each.
    ///
    /// # Errors
    /// A prompt that cannot be tokenised.
    fn condition(&self, prompts: &[usize]) -> Result<Condition>;
    /// Decodes `latents`, `[B, C, H, W]`, and scores them against the prompts of these indices, `B` of them.
    ///
    /// # Errors
    /// A reward that cannot be computed.
    fn score(&mut self, latents: &Tensor, prompts: &[usize]) -> Result<Vec<RewardValues>>;
}
