//! A task: prompts, what the text encoders make of them, and a reward for images.

pub use opdflow_spec::task::*;

use anyhow::Result;
use opdflow_models::condition::Condition;
use std::ops::Range;
use tch::Tensor;

/// What samples: it calls what it is given with the latents of one part after another.
pub type Sample<'s> = dyn FnMut(&mut dyn FnMut(&Tensor) -> Result<()>) -> Result<()> + 's;

/// What `each` makes of every part that is sampled, a number for each image.
///
/// # Errors
/// What sampling or `each` says.
pub fn of_parts(sample: &mut Sample, each: impl Fn(&Tensor) -> Result<Vec<f64>>) -> Result<Vec<f64>> {
    let mut values = Vec::new();
    sample(&mut |latents| {
        values.extend(each(latents)?);
        Ok(())
    })?;
    Ok(values)
}

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
    /// Images that are judged together: what is sampled at a time is a multiple of so many.
    fn judged_together(&self) -> usize {
        1
    }
    /// Scores an image for each of the prompts of these indices, while they are sampled: `sample` hands over the latents of the rows
    /// `own`, which are this process's, part after part, `[b, C, H, W]`. The scores are those of all rows.
    ///
    /// # Errors
    /// A reward that cannot be computed; what `sample` says.
    fn score(&mut self, prompts: &[usize], own: Range<usize>, sample: &mut Sample) -> Result<Vec<RewardValues>>;
}
