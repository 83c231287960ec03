//! On-policy distillation as reinforcement learning: the divergence from the teacher is the negative reward of a step,
//! under a clipped ratio (DiffusionOPD's comparison; the core of Flow-OPD).

pub use opdflow_spec::ppo::*;

use crate::grpo::{loss, plain_log_ratio};
use crate::objective::{Objective, Report};
use crate::opd::divergence;
use crate::school::{Class, School};
use crate::tally::Tally;
use anyhow::{Context as _, Result};
use opdflow_models::rollout::{Keep, Rollout};
use opdflow_models::solver::TakeStep as _;
use tch::Kind;

/// A student in training.
pub struct Ppo<'a> {
    /// Settings of the method.
    pub config: PpoConfig,
    /// Student and lessons.
    pub school: School<'a>,
    /// The round's rollouts, a lesson each, while its updates last.
    pub seen: Vec<(Class, Rollout)>,
}

impl Ppo<'_> {
    fn sample(&self, index: usize, round: u64) -> Result<(Class, Rollout)> {
        let class = self.school.class(index, round)?;
        let seen = self.school.rollout(&self.school.student(), &class, &self.school.walk.solver, Keep::All);
        Ok((class, seen))
    }

    /// One lesson's gradient; returns its mean divergence from the teacher.
    fn lesson(&self, index: usize) -> Result<f64> {
        let (config, school) = (&self.config, &self.school);
        let (class, seen) = self.seen.get(index).context("an update before its round's rollout")?;
        let schedule = school.schedule();
        let (student, teacher) = (school.student(), school.teacher(index));
        let scale = 1.0 / (class.len() as usize * schedule.trained()) as f64;
        let mut sum = Tally::default();
        for j in 0..schedule.trained() {
            let step = school.walk.solver.step(&schedule, j);
            for (at, count) in school.canvas.micros(class.len()) {
                let (x, condition) = (seen.states[j].narrow(0, at, count), class.condition.narrow(at, count));
                let frozen = |field: &opdflow_models::field::Field| {
                    let _off = tch::no_grad_guard();
                    step.mean(&x, &field.velocity_at(&x, step.sigma, &condition), None)
                };
                let goal = frozen(&teacher);
                let trained = student.seen_at(&x, step.sigma, &condition, school.canvas.recompute);
                let mean = step.mean(&x, &trained.velocity, None);
                let (old, noise) = (seen.means[j].narrow(0, at, count), seen.noises[j].narrow(0, at, count));
                let apart = divergence(&mean, &goal, step.std);
                let advantage = if config.detach { -apart.detach() } else { -&apart };
                let mut by_sample = loss(&plain_log_ratio(&mean, &old, &noise, step.std), &advantage, config.clip);
                if config.anchor > 0.0 {
                    let base = frozen(&school.base());
                    by_sample += divergence(&mean, &base, step.std) * config.anchor;
                }
                trained.backward(&(by_sample.sum(Kind::Float) * (scale / school.lessons.len() as f64)));
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
        self.school.pictures() * self.school.schedule().trained() as u64 * self.updates(0) as u64
    }

    fn accumulate(&mut self, round: u64, update: usize) -> Result<Report> {
        if update == 0 {
            self.seen = (0..self.school.lessons.len()).map(|i| self.sample(i, round)).collect::<Result<_>>()?;
        }
        self.school.round(|index| self.lesson(index))
    }

    fn after(&mut self, _round: u64) {
        self.seen.clear();
    }
}
