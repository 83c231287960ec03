//! On-policy distillation as reinforcement learning: the divergence from the teacher is the negative reward of a step,
//! under a clipped ratio (DiffusionOPD's comparison; the core of Flow-OPD).

pub use opdflow_spec::ppo::*;

use crate::distillation::{Batch, Distillation};
use crate::grpo::{loss, plain_log_ratio};
use crate::leaves::summed;
use crate::objective::{Objective, Report};
use crate::opd::divergence;
use anyhow::{Context as _, Result};
use opdflow_models::rollout::{Keep, Rollout};
use opdflow_models::solver::TakeStep as _;
use tch::{Kind, Tensor};

/// A student in training.
pub struct Ppo<'a> {
    /// Settings of the method.
    pub config: PpoConfig,
    /// Student and teachers.
    pub distillation: Distillation<'a>,
    /// The round's rollouts, one per task, while its updates last.
    pub seen: Vec<(Batch, Rollout)>,
}

/// The clipped loss of each sample, `[B]`, from its divergence from the teacher and its log-ratio, both means over `numbers`
/// dimensions: the advantage is the negative divergence (paper, eqs. 14 to 23). With sums both are `numbers` times as large, and
/// the product of the two is divided by `numbers`, so that the advantage stays as it is.
pub fn surrogate(config: &PpoConfig, apart: &Tensor, log_ratio: &Tensor, numbers: f64) -> Tensor {
    let log_ratio = match config.reduction {
        Reduction::Sum => log_ratio * numbers,
        Reduction::Mean => log_ratio.shallow_clone(),
    };
    let advantage = if config.detach { -apart.detach() } else { -apart };
    loss(&log_ratio, &advantage, config.clip_range.unwrap_or(config.reduction.clip()))
}

impl Ppo<'_> {
    fn sample(&self, index: usize, round: u64) -> Result<(Batch, Rollout)> {
        let batch = self.distillation.batch(index, round)?;
        let seen = self.distillation.rollout(
            &self.distillation.student(),
            &batch,
            &self.distillation.sampling.solver,
            Keep::All,
        )?;
        Ok((batch, seen))
    }

    /// The gradient of all tasks; returns the mean divergence of each from its teacher.
    fn learn(&self) -> Result<Vec<f64>> {
        let (config, distillation) = (&self.config, &self.distillation);
        let (schedule, student) = (distillation.schedule(), distillation.student());
        let images: Vec<i64> = self.seen.iter().map(|(batch, _)| batch.len()).collect();
        let told = distillation.learn(&distillation.lora.parameters(), &images, schedule.trained(), |piece| {
            let (batch, seen) = self.seen.get(piece.task).context("an update before its round's rollout")?;
            let scale = 1.0 / (batch.len() as usize * schedule.trained()) as f64;
            let numbers = batch.start.size()[1..].iter().product::<i64>() as f64;
            let (j, step) = (piece.step, distillation.sampling.solver.step(&schedule, piece.step));
            let (x, condition) = (piece.of(&seen.states[j]), batch.condition.narrow(piece.at, piece.count));
            let frozen = |field: &opdflow_models::field::Field| {
                let _off = tch::no_grad_guard();
                step.mean(&x, &field.velocity_at(&x, step.sigma, &condition), None)
            };
            let goal = frozen(&distillation.teacher(piece.task));
            let trained = student.seen_at(&x, step.sigma, &condition, distillation.canvas.gradient_checkpointing);
            let mean = step.mean(&x, &trained.velocity, None);
            let (old, noise) = (piece.of(&seen.means[j]), piece.of(&seen.noises[j]));
            let apart = divergence(&mean, &goal, step.std);
            let mut by_sample = surrogate(config, &apart, &plain_log_ratio(&mean, &old, &noise, step.std), numbers);
            if config.anchor > 0.0 {
                let base = frozen(&distillation.base());
                by_sample += divergence(&mean, &base, step.std) * config.anchor;
            }
            trained.backward(&(by_sample.sum(Kind::Float) * (scale / distillation.teachers.len() as f64)));
            Ok(vec![summed(&apart, scale)])
        })?;
        Ok(told.into_iter().filter_map(|sums| sums.first().copied()).collect())
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
        Ok(self.distillation.report(self.learn()?))
    }

    fn after(&mut self, _round: u64) {
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_models::rng::normal;
    use tch::Device;

    /// On-policy, at a distance `e` from the teacher in each of `D` dimensions and a step of standard deviation `s`, the
    /// gradient in `mu` is that of the divergence, of norm `e sqrt(D) / (s^2 D)`, and beside it `KL z / s`: with sums
    /// `D e^2 / (2 s^2)` times a noise of norm `sqrt(D) / s`, over `D`. Their ratio is `D e / (2 s)`; with means `e / (2 s)`.
    #[test]
    fn with_sums_the_ratio_scatters_as_many_times_more_as_there_are_dimensions() {
        let (numbers, e, std) = (1024_i64, 0.01, 0.5);
        let old = normal(&[1, 1, 1, numbers], 1, Device::Cpu);
        let noise = normal(&[1, 1, 1, numbers], 2, Device::Cpu);
        let goal = &old + e;
        let gradient = |reduction: Reduction, detach: bool| {
            let mean = old.copy().set_requires_grad(true);
            let config = PpoConfig { reduction, detach, ..PpoConfig::default() };
            let (apart, ratio) = (divergence(&mean, &goal, std), plain_log_ratio(&mean, &old, &noise, std));
            surrogate(&config, &apart, &ratio, numbers as f64).sum(Kind::Float).backward();
            mean.grad()
        };
        for (reduction, wanted) in [(Reduction::Sum, 1024.0 * e / (2.0 * std)), (Reduction::Mean, e / (2.0 * std))] {
            // The part of the ratio alone, and what is left of the whole: the divergence's.
            let (whole, scattered) = (gradient(reduction, false), gradient(reduction, true));
            let (direct, norm) = ((&whole - &scattered).norm().double_value(&[]), scattered.norm().double_value(&[]));
            let by_hand = e * (numbers as f64).sqrt() / (std * std * numbers as f64);
            assert!((direct / by_hand - 1.0).abs() < 1e-3, "{reduction:?}: {direct} {by_hand}");
            // The norm of 1,024 normal numbers is within a few percent of 32.
            assert!((norm / direct / wanted - 1.0).abs() < 0.1, "{reduction:?}: {} {wanted}", norm / direct);
        }
    }
}
