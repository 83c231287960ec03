//! On-policy distillation as reinforcement learning: the divergence from the teacher is the negative reward of a step,
//! under a clipped ratio (DiffusionOPD's comparison; the core of Flow-OPD).

pub use opdflow_spec::ppo::*;

use crate::distillation::{Batch, Distillation};
use crate::grpo::{loss, plain_log_ratio};
use crate::objective::{Objective, Report};
use crate::opd::divergence;
use crate::tally::Tally;
use anyhow::{Context as _, Result};
use opdflow_models::rollout::{Keep, Rollout};
use opdflow_models::solver::TakeStep as _;
use tch::Kind;

/// A student in training.
pub struct Ppo<'a> {
    /// Settings of the method.
    pub config: PpoConfig,
    /// Student and teachers.
    pub distillation: Distillation<'a>,
    /// The round's rollouts, one per task, while its updates last.
    pub seen: Vec<(Batch, Rollout)>,
}

impl Ppo<'_> {
    fn sample(&self, index: usize, round: u64) -> Result<(Batch, Rollout)> {
        let batch = self.distillation.batch(index, round)?;
        let seen = self.distillation.rollout(
            &self.distillation.student(),
            &batch,
            &self.distillation.sampling.solver,
            Keep::All,
        );
        Ok((batch, seen))
    }

    /// One task's gradient; returns its mean divergence from the teacher.
    fn learn_from(&self, index: usize) -> Result<f64> {
        let (config, distillation) = (&self.config, &self.distillation);
        let (batch, seen) = self.seen.get(index).context("an update before its round's rollout")?;
        let schedule = distillation.schedule();
        let (student, teacher) = (distillation.student(), distillation.teacher(index));
        let scale = 1.0 / (batch.len() as usize * schedule.trained()) as f64;
        let mut sum = Tally::default();
        for j in 0..schedule.trained() {
            let step = distillation.sampling.solver.step(&schedule, j);
            for (at, count) in distillation.canvas.micros(batch.len()) {
                let (x, condition) = (seen.states[j].narrow(0, at, count), batch.condition.narrow(at, count));
                let frozen = |field: &opdflow_models::field::Field| {
                    let _off = tch::no_grad_guard();
                    step.mean(&x, &field.velocity_at(&x, step.sigma, &condition), None)
                };
                let goal = frozen(&teacher);
                let trained = student.seen_at(&x, step.sigma, &condition, distillation.canvas.gradient_checkpointing);
                let mean = step.mean(&x, &trained.velocity, None);
                let (old, noise) = (seen.means[j].narrow(0, at, count), seen.noises[j].narrow(0, at, count));
                let apart = divergence(&mean, &goal, step.std);
                let advantage = if config.detach { -apart.detach() } else { -&apart };
                let mut by_sample =
                    loss(&plain_log_ratio(&mean, &old, &noise, step.std), &advantage, config.clip_range);
                if config.anchor > 0.0 {
                    let base = frozen(&distillation.base());
                    by_sample += divergence(&mean, &base, step.std) * config.anchor;
                }
                trained.backward(&(by_sample.sum(Kind::Float) * (scale / distillation.teachers.len() as f64)));
                sum.add(&apart, scale);
            }
        }
        Ok(sum.read())
    }
}

impl Objective for Ppo<'_> {
    fn updates(&self, _round: u64) -> usize {
        self.config.updates.max(1)
    }

    fn gradients(&self) -> u64 {
        self.distillation.images() * self.distillation.schedule().trained() as u64 * self.updates(0) as u64
    }

    fn accumulate(&mut self, round: u64, update: usize) -> Result<Report> {
        if update == 0 {
            self.seen = (0..self.distillation.teachers.len()).map(|i| self.sample(i, round)).collect::<Result<_>>()?;
        }
        self.distillation.round(|index| self.learn_from(index))
    }

    fn after(&mut self, _round: u64) {
        self.seen.clear();
    }
}
