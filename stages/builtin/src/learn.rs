//! The frame around every training stage: continue from a checkpoint, train round after round, save, stop when asked.

use anyhow::{Context as _, Result};
use opdflow_flow::State;
use opdflow_flow::grpo::OffPolicy;
use opdflow_flow::objective::{Objective, Report};
use opdflow_flow::train::{Learner, NotFinite};
use opdflow_stage::{Fault, StageContext};
use std::path::Path;

/// What a training stage adds to the frame.
pub trait Course {
    /// Called after every round, with what it reported: metrics beyond the report, candidates, samples.
    ///
    /// # Errors
    /// A full disk.
    fn after(&mut self, _round: u64, _report: &Report, _learner: &Learner, _context: &mut StageContext) -> Result<()> {
        Ok(())
    }
    /// Puts what [`Course::after`] has gathered into a checkpoint folder.
    ///
    /// # Errors
    /// A full disk.
    fn save(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }
    /// Takes it out again.
    ///
    /// # Errors
    /// A damaged checkpoint.
    fn load(&mut self, _folder: &Path) -> Result<()> {
        Ok(())
    }
}

/// Nothing beyond the frame.
pub struct Plain;
impl Course for Plain {}

/// Trains for `rounds` rounds, from the newest checkpoint on. Each round's report goes to the metrics every
/// `report_every` rounds.
///
/// # Errors
/// Stopped as asked (after a checkpoint); a gradient that is not finite; a reward or the disk failing.
pub fn learn(
    context: &mut StageContext,
    learner: &mut Learner,
    objective: &mut dyn Objective,
    course: &mut dyn Course,
    rounds: u64,
    report_every: u64,
) -> Result<()> {
    if let Some(checkpoint) = context.resume(rounds)? {
        let state = State::read(&checkpoint.path.join("state.safetensors"))?;
        learner.restore(&state, objective).context("continuing from a checkpoint")?;
        course.load(&checkpoint.path).context("continuing from a checkpoint")?;
    }
    while learner.rounds() < rounds {
        if context.should_stop() {
            save(context, learner, objective, course)?;
            return Err(context.stopped(learner.rounds()));
        }
        let round = learner.rounds();
        let report = learner.round(objective).map_err(as_fault)?;
        tell(context, round, &report, report_every)?;
        course.after(round, &report, learner, context)?;
        context.progress(learner.rounds(), rounds, &headline(&report));
        if context.checkpoint_due() {
            save(context, learner, objective, course)?;
        }
    }
    // The last state too: a longer run of the same lineage goes on from here.
    save(context, learner, objective, course)
}

fn save(context: &mut StageContext, learner: &Learner, objective: &dyn Objective, course: &dyn Course) -> Result<()> {
    context.checkpoint(learner.rounds(), |folder| {
        State::write(&folder.join("state.safetensors"), learner.state(objective))?;
        course.save(folder)
    })
}

fn as_fault(error: anyhow::Error) -> anyhow::Error {
    if let Some(broken) = error.downcast_ref::<NotFinite>() {
        return Fault::not_finite(broken.to_string()).help("lower the learning rate, or clip harder").into();
    }
    if let Some(off) = error.downcast_ref::<OffPolicy>() {
        let fault = Fault::user(off.to_string());
        return fault.help("rollout and training must compute alike: take precision f32, or a wider clip").into();
    }
    error
}

fn tell(context: &mut StageContext, round: u64, report: &Report, every: u64) -> Result<()> {
    if (round + 1).is_multiple_of(every.max(1)) {
        for (name, value) in report {
            context.metric(round + 1, name, *value)?;
        }
    }
    Ok(())
}

/// The one number that belongs beside a progress bar.
fn headline(report: &Report) -> String {
    let of = |wanted: &str| report.iter().find(|(n, _)| n == wanted);
    of("reward").or_else(|| of("loss")).map_or(String::new(), |(name, value)| format!("{name} {value:.4}"))
}
