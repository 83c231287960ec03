//! GRPO-Guard: clipped policy gradients over SDE rollouts with a ratio that is centred and equally scaled at every step.

use crate::Solver;
use crate::advantage::Spread;
use crate::lora::Lora;
use crate::objective::{Objective, Report};
use crate::rng::{Choices, derive};
use crate::rollout::Keep;
use crate::teacher::{Experience, Explorer, Sampling, per_sample};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Settings of GRPO-Guard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// The SDE of the rollouts. It must add noise.
    pub solver: Solver,
    /// Largest distance of the ratio from 1. Log-ratios are means over dimensions, hence the small number.
    pub clip: f64,
    /// Weight of the KL divergence of a step to the base's (paper formula of Flow-GRPO, `|mu - mu_ref|^2 / (2 std^2)`, mean over dimensions).
    pub kl: f64,
    /// Whose standard deviation the advantages are divided by.
    pub spread: Spread,
    /// Optimiser steps per round. Prompts are split evenly among them; from the second on, data are off-policy.
    pub updates: usize,
    /// Steps per picture that are trained; none means all but the last of the schedule.
    pub times: Option<usize>,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            solver: Solver::Flow { noise_level: 0.7 },
            clip: 2e-6,
            kl: 0.0,
            spread: Spread::Group,
            updates: 2,
            times: None,
        }
    }
}

/// Guard's log-ratio of each sample, `[B]`: `std (lp - lp_old + b)` with `b = mean (mu - mu_old)^2 / (2 std^2)`, which
/// is `mean(z (mu - mu_old))`. It has mean 0 on-policy and the same scale at every step. `b` is taken per sample; the
/// released code averages it over the batch (a known slip there).
pub fn log_ratio(mean: &Tensor, old: &Tensor, noise: &Tensor) -> Tensor {
    per_sample(&(noise * (mean - old)))
}

/// The clipped loss of each sample, `[B]`, divided by the step's length, which gives every step the same weight.
pub fn loss(log_ratio: &Tensor, advantage: &Tensor, clip: f64, length: f64) -> Tensor {
    let ratio = log_ratio.exp();
    let free = -(advantage * &ratio);
    let cut = -(advantage * ratio.clamp(1.0 - clip, 1.0 + clip));
    free.maximum(&cut) / length
}

/// A teacher in training with GRPO-Guard.
pub struct Guard<'a> {
    /// Settings of the method.
    pub config: GuardConfig,
    /// Base, prompts, reward and rollouts.
    pub explorer: Explorer<'a>,
    /// The trained adapter, which also samples.
    pub lora: &'a Lora,
    /// The round's pictures, while its updates last.
    pub seen: Option<Experience>,
}

impl Objective for Guard<'_> {
    fn updates(&self) -> usize {
        self.config.updates.clamp(1, self.explorer.sampling.prompts.max(1))
    }

    fn accumulate(&mut self, round: u64, update: usize) -> Result<Report> {
        let mut report = Report::new();
        if update == 0 {
            let (config, lora) = (&self.config, self.lora);
            let mut seen = self.explorer.explore(lora, &config.solver, config.spread, Keep::All, round)?;
            report = std::mem::take(&mut seen.report);
            self.seen = Some(seen);
        }
        let seen = self.seen.as_ref().context("an update before its round's rollout")?;
        let explorer = &self.explorer;
        let schedule = explorer.schedule();
        let mut steps: Vec<usize> = (0..schedule.trained()).collect();
        if let Some(times) = self.config.times {
            let order = Choices::new(derive(explorer.seed, "times", round)).permutation(steps.len());
            steps = order.into_iter().take(times.max(1)).collect();
        }
        let Sampling { prompts, group, .. } = explorer.sampling;
        let share = |u: usize| u * prompts / self.updates() * group;
        let (first, total) = (share(update) as i64, (share(update + 1) - share(update)) as i64);
        let scale = 1.0 / (total as f64 * steps.len() as f64);
        let (mut policy, mut off, mut cut) = (0.0, 0.0_f64, 0.0);
        for &j in &steps {
            let step = self.config.solver.step(&schedule, j);
            for (start, count) in explorer.canvas.micros(total) {
                let part = |x: &Tensor| x.narrow(0, first + start, count);
                let (x, condition) = (part(&seen.rollout.states[j]), seen.condition.narrow(first + start, count));
                let v = explorer.field(Some(self.lora)).velocity_at(&x, step.sigma, &condition);
                let mean = step.mean(&x, &v, None);
                let log_ratio = log_ratio(&mean, &part(&seen.rollout.means[j]), &part(&seen.rollout.noises[j]));
                let by_sample = loss(&log_ratio, &part(&seen.advantage), self.config.clip, step.length());
                let mut total_loss = by_sample.sum(Kind::Float) * scale;
                if self.config.kl > 0.0 {
                    let base = {
                        let _off = tch::no_grad_guard();
                        step.mean(&x, &explorer.field(None).velocity_at(&x, step.sigma, &condition), None)
                    };
                    total_loss +=
                        crate::opd::divergence(&mean, &base, step.std).sum(Kind::Float) * (self.config.kl * scale);
                }
                total_loss.backward();
                policy += by_sample.sum(Kind::Float).double_value(&[]) * scale;
                let away = log_ratio.detach().abs();
                off = off.max(away.max().double_value(&[]));
                cut += away.gt(self.config.clip).to_kind(Kind::Float).sum(Kind::Float).double_value(&[]) * scale;
            }
        }
        // On-policy the ratio is 1 up to rounding: a larger value at the first update means that rollout and training
        // do not compute the same function.
        let tag = if update == 0 { "first" } else { "later" };
        report.extend([("loss".to_owned(), policy), (format!("log_ratio_{tag}"), off), ("clipped".to_owned(), cut)]);
        Ok(report)
    }

    fn after(&mut self, _round: u64) {
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::normal;
    use tch::Device;

    #[test]
    fn the_short_form_is_the_corrected_ratio() {
        let (old, noise, std) = (normal(&[3, 2, 4, 4], 1, Device::Cpu), normal(&[3, 2, 4, 4], 2, Device::Cpu), 0.37);
        let mean = &old + normal(&[3, 2, 4, 4], 3, Device::Cpu) * 0.01;
        let next = &old + &noise * std;
        let lp = |m: &Tensor| per_sample(&(-(&next - m).square() / (2.0 * std * std)));
        let b = per_sample(&((&mean - &old).square() / (2.0 * std * std)));
        let long = (lp(&mean) - lp(&old) + b) * std;
        assert!((long - log_ratio(&mean, &old, &noise)).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn on_policy_the_ratio_is_one_and_the_gradient_is_the_policy_gradient() {
        let noise = normal(&[2, 1, 2, 2], 5, Device::Cpu);
        let old = normal(&[2, 1, 2, 2], 6, Device::Cpu);
        let mean = old.copy().set_requires_grad(true);
        let ratio = log_ratio(&mean, &old, &noise);
        assert_eq!(ratio.abs().max().double_value(&[]), 0.0);
        let advantage = Tensor::from_slice(&[1.5_f32, -0.5]);
        loss(&ratio, &advantage, 1e-4, 0.25).sum(Kind::Float).backward();
        // d/dmu of -A mean(z d) / length
        let expected = -(&noise * advantage.view([2, 1, 1, 1])) / 4.0 / 0.25;
        assert!((mean.grad() - expected).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn the_clip_stops_what_went_too_far_and_only_that() {
        let l = |ratio: f64, a: f64| {
            let lr = Tensor::from_slice(&[ratio.ln() as f32]).set_requires_grad(true);
            loss(&lr, &Tensor::from_slice(&[a as f32]), 0.1, 1.0).sum(Kind::Float).backward();
            lr.grad().double_value(&[0])
        };
        assert_eq!(l(1.2, 1.0), 0.0);
        assert_eq!(l(0.8, -1.0), 0.0);
        assert!(l(1.2, -1.0) > 0.0 && l(0.8, 1.0) < 0.0 && l(1.05, 1.0) < 0.0);
    }
}
