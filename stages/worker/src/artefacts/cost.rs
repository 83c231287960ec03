//! What a training took, as far as every machine counts it alike: the output `cost`, and budgets that are made of it.

use crate::artefacts::json;
use crate::report::seeds;
use anyhow::Result;
use opdflow_api::StageContext;
use opdflow_api::warning::NO_PACE;
use opdflow_kinds::report::timing::longest;
use opdflow_kinds::training::budget::{Budget, PORT, rounds};
use opdflow_spec::train::LrSchedule;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a training took. It hangs on parameters and on the model alone, so that what reads it has the same key wherever and however
/// often the training ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Rounds since the beginning, those of shorter runs that it went on from included.
    pub rounds: u64,
    /// Gradients, each of one image at one noise level.
    pub gradients: u64,
    /// Floating-point operations of the rounds: rollouts, frozen passes and gradients. What is computed again to save memory is not
    /// counted, nor are text encoders, rewards and optimizers.
    pub operations: f64,
    /// Those of the images that the rule on the validation score looked at.
    pub validation_operations: f64,
}

impl Cost {
    /// Reads it.
    ///
    /// # Errors
    /// The file is not one that [`Cost::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        json::read(path, "cost")
    }

    /// Writes the output `cost`.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&self, context: &StageContext) -> Result<()> {
        json::write(&context.output("cost"), self)
    }
}

/// How many rounds, of `round` operations each, a training takes: `most`, or what its budget has room for. A schedule of the learning
/// rate that is spent long before is warned of, as `check` does where it knows the rounds.
///
/// # Errors
/// A name that nothing is connected under; a damaged file.
pub fn rounds_within(
    budget: Option<&Budget>,
    round: f64,
    most: Option<u64>,
    lr_schedule: &LrSchedule,
    context: &StageContext,
) -> Result<u64> {
    let Some(budget) = budget else { return most.ok_or_else(|| anyhow::anyhow!("a training without an end")) };
    let of = |name: &String| -> Result<Vec<f64>> {
        let inputs = seeds::connected(context, PORT, name, "the budget names")?;
        inputs.iter().map(|input| Ok(Cost::read(&context.input(input)?)?.operations)).collect()
    };
    let path =
        budget.path.iter().map(|names| names.iter().map(of).collect()).collect::<Result<Vec<Vec<Vec<f64>>>>>()?;
    let operations = budget.times * longest(&path).unwrap_or(0.0);
    let found = rounds(operations, round, most);
    let much =
        if (found as f64) * round > operations * (1.0 + 1e-9) { ", which is less than a round takes" } else { "" };
    context
        .say(format!("rounds: {found}, by a budget of {operations:.4e} operations{much}; a round takes {round:.4e}"));
    if let Some(words) = lr_schedule.spent(found).filter(|_| most != Some(found)) {
        context.warn(NO_PACE, words, 1);
    }
    Ok(found)
}
