//! The frame around every training stage: continue from a checkpoint, train round after round, save, stop when asked.

use crate::runtime::pause::{ended, paused};
use crate::runtime::ranks::parted;
use crate::runtime::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::warning::{FLAT, NO_GRADIENT};
use opdflow_api::{Fault, StageContext};
use opdflow_training::State;
use opdflow_training::grpo::OffPolicy;
use opdflow_training::objective::{Objective, Report};
use opdflow_training::train::Learner;
use std::path::Path;

/// Whether a training goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Nothing speaks against the next round.
    GoOn,
    /// It has ended at this round, which may lie before the rounds that are done: those were another run's, whose checkpoint this
    /// one goes on from.
    End(u64),
    /// Nobody knows yet, for the stage was asked to stop.
    Interrupted,
}

/// What a training stage adds to the frame.
pub trait Course {
    /// Asked with the number of rounds that are done, before the first and after each.
    ///
    /// # Errors
    /// What judging needs fails.
    fn judge(&mut self, _done: u64, _context: &mut StageContext) -> Result<Judged> {
        Ok(Judged::GoOn)
    }
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

/// Several, each asked in turn. Without any there is nothing beyond the frame.
#[derive(Default)]
pub struct Courses<'a>(pub Vec<&'a mut dyn Course>);

impl Course for Courses<'_> {
    /// The first that does not simply go on has the word.
    fn judge(&mut self, done: u64, context: &mut StageContext) -> Result<Judged> {
        for course in &mut self.0 {
            match course.judge(done, context)? {
                Judged::GoOn => {}
                judged => return Ok(judged),
            }
        }
        Ok(Judged::GoOn)
    }

    fn after(&mut self, round: u64, report: &Report, learner: &Learner, context: &mut StageContext) -> Result<()> {
        self.0.iter_mut().try_for_each(|course| course.after(round, report, learner, context))
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.0.iter().try_for_each(|course| course.save(folder))
    }

    fn load(&mut self, folder: &Path) -> Result<()> {
        self.0.iter_mut().try_for_each(|course| course.load(folder))
    }
}

/// Trains for `rounds` rounds, or until `course` ends it, from the newest checkpoint on. Each round's report goes to the metrics every
/// `report_every` rounds. Returns the round at which it ended. The learner may be further: where a rule ends a training at a round
/// that another run of the lineage has passed, its candidate of that round is all that is left of it.
///
/// # Errors
/// Stopped as asked (after a checkpoint); a loss, a gradient, a weight or a latent that is not finite, of which nothing
/// is kept; a reward or the disk failing.
pub fn learn(
    context: &mut StageContext,
    learner: &mut Learner,
    objective: &mut dyn Objective,
    course: &mut dyn Course,
    rounds: u64,
    report_every: u64,
) -> Result<u64> {
    let mut kept = None;
    if let Some(checkpoint) = context.resume(rounds)? {
        let state = State::read(&checkpoint.path.join("state.safetensors")).map_err(|e| spoiled(e, context))?;
        kept = Some(checkpoint.step);
        learner.restore(&state, objective).context("continuing from a checkpoint")?;
        course.load(&checkpoint.path).context("continuing from a checkpoint")?;
    }
    let end = loop {
        let judged = match course.judge(learner.rounds(), context) {
            Err(error) if paused(&error).is_some() => return Err(pause(error, context, learner, objective, course)),
            judged => judged?,
        };
        match judged {
            Judged::End(round) => break round,
            Judged::GoOn if learner.rounds() >= rounds => break learner.rounds(),
            Judged::GoOn | Judged::Interrupted => {}
        }
        if context.should_stop() {
            save(context, learner, objective, course).map_err(|e| as_fault(e, learner.rounds(), kept))?;
            return Err(context.stopped(learner.rounds()));
        }
        let round = learner.rounds();
        let report = match learner.round(objective) {
            Err(error) if paused(&error).is_some() => return Err(pause(error, context, learner, objective, course)),
            report => report.map_err(|e| as_fault(e, round, kept))?,
        };
        tell(context, round, &report, report_every)?;
        doubt(context, &report);
        course.after(round, &report, learner, context)?;
        context.progress(learner.rounds(), rounds, &headline(&report));
        if context.checkpoint_due() {
            save(context, learner, objective, course).map_err(|e| as_fault(e, round, kept))?;
            kept = Some(learner.rounds());
        }
    };
    // The last state too: a longer run of the same lineage goes on from here.
    save(context, learner, objective, course).map_err(|e| as_fault(e, learner.rounds(), kept))?;
    Ok(end)
}

/// Keeps all that is done where a server is away or may not be asked any more. Rewards are asked before anything of a round is
/// learned, so that the state is that of its beginning.
fn pause(
    error: anyhow::Error,
    context: &mut StageContext,
    learner: &Learner,
    objective: &dyn Objective,
    course: &dyn Course,
) -> anyhow::Error {
    let round = learner.rounds();
    match (save(context, learner, objective, course), paused(&error)) {
        (Ok(()), Some(pause)) => ended(pause, round, context),
        (Ok(()), None) => error,
        (Err(unsaved), _) => as_fault(unsaved, round, None),
    }
}

fn save(context: &mut StageContext, learner: &Learner, objective: &dyn Objective, course: &dyn Course) -> Result<()> {
    context.checkpoint(learner.rounds(), |folder| {
        State::write(&folder.join("state.safetensors"), learner.state(objective))?;
        course.save(folder)
    })
}

/// The fault of a round. What is not finite is named with the round, and with the checkpoint that is still good.
fn as_fault(error: anyhow::Error, round: u64, kept: Option<u64>) -> anyhow::Error {
    let good = match kept {
        Some(step) => format!("the last good checkpoint is that of round {step}"),
        None => "there is no checkpoint before it".to_owned(),
    };
    if let Some(fault) = unfit::broken(&error, "") {
        let at = if error.to_string().contains(" of round ") { String::new() } else { format!("round {round}: ") };
        let message = format!("{at}{}; nothing of this round is kept, {good}", fault.message);
        let fault = Fault { message, ..fault };
        // Before the first step nothing was trained that could be to blame.
        let untrained = round == 0 && fault.help.is_some();
        return if untrained { fault } else { fault.help("lower the learning rate, or clip harder") }.into();
    }
    if let Some(off) = error.downcast_ref::<OffPolicy>() {
        let fault = Fault::user(off.to_string());
        return fault.help("rollout and training must compute alike: take precision f32, or a wider clip").into();
    }
    parted(error)
}

/// A checkpoint that was written before such things were looked at.
fn spoiled(error: anyhow::Error, context: &StageContext) -> anyhow::Error {
    match unfit::broken(&error, "the checkpoint to go on from: ") {
        Some(fault) => {
            Fault { help: None, ..fault }.help(format!("`--force {}` begins anew", context.job().name)).into()
        }
        None => error,
    }
}

/// Warns of a round that taught nothing.
fn doubt(context: &StageContext, report: &Report) {
    let of = |wanted: &'static str| report.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| *value);
    if of("flat_groups").any(|share| share >= 1.0) {
        context.warn_again(FLAT, "the rewards of every group were equal in a round: it taught nothing");
    } else if of("grad_norm").next().is_some() && of("grad_norm").all(|norm| norm == 0.0) {
        context.warn_again(NO_GRADIENT, "the gradient of a round was exactly zero: nothing was learned in it");
    }
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
    let of = |wanted: &'static str| report.iter().find(|(n, _)| n == wanted);
    of("reward").or_else(|| of("loss")).map_or(String::new(), |(name, value)| format!("{name} {value:.4}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_api::FaultClass;
    use opdflow_models::finite::NotFinite;

    fn fault(what: &str, round: u64, kept: Option<u64>) -> Fault {
        as_fault(NotFinite::new(what).into(), round, kept).downcast().unwrap()
    }

    #[test]
    fn what_is_not_finite_is_told_with_its_round_the_checkpoint_before_it_and_the_way_out() {
        let late = fault("the gradient", 5, Some(4));
        assert_eq!(late.class, FaultClass::NotFinite);
        assert_eq!(
            late.message,
            "round 5: the gradient is not finite; nothing of this round is kept, the last good checkpoint is that of round 4"
        );
        assert_eq!(late.help.as_deref(), Some("lower the learning rate, or clip harder"));
        // The learner names the round itself.
        let step = fault("a weight after the step of round 3", 3, None);
        assert_eq!(
            step.message,
            "a weight after the step of round 3 is not finite; nothing of this round is kept, there is no checkpoint before it"
        );
    }

    #[test]
    fn before_the_first_step_what_came_in_is_to_blame() {
        let latent = || Fault::not_finite("the latent").help("take another adapter");
        let help = |round| as_fault(latent().into(), round, None).downcast::<Fault>().unwrap().help;
        assert_eq!(help(0).as_deref(), Some("take another adapter"));
        assert_eq!(help(1).as_deref(), Some("lower the learning rate, or clip harder"));
    }
}
