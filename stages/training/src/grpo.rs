//! The GRPO family: clipped policy gradients over SDE rollouts. Flow-GRPO takes the ratio as it is; GRPO-Guard centres it
//! and gives it the same scale at every step. Windows and sliding windows are Flow-GRPO-Fast's and MixGRPO's.

pub use opdflow_spec::grpo::*;

use crate::leaves::{self, summed};
use crate::objective::{Objective, Report, named};
use crate::teacher::{
    Experience, RolloutCollector, Sampling, condition_of, order_of_round, per_sample, rows_of, share,
};
use anyhow::{Context as _, Result, ensure};
use opdflow_models::finite::NotFinite;
use opdflow_models::lora::Lora;
use opdflow_models::rng::{Choices, derive};
use opdflow_models::rollout::Keep;
use opdflow_models::solver::TakeStep as _;
use std::collections::BTreeSet;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Flow-GRPO's log-ratio of each sample, `[B]`: `lp - lp_old`, log-densities of the taken step as means over dimensions.
/// The step was `mu_old + std z`, so that it is `mean(z d / std - d^2 / (2 std^2))` with `d = mu - mu_old`.
pub fn plain_log_ratio(mean: &Tensor, old: &Tensor, noise: &Tensor, std: f64) -> Tensor {
    let d = (mean - old) / std;
    per_sample(&(noise * &d - d.square() * 0.5))
}

/// The log-ratio of each sample, `[B]`, where the density is `-(x' - mu)^2` as a mean over dimensions ([`Density::Distance`]):
/// with `x' = mu_old + std z`, `mean(2 std z d - d^2)`.
pub fn distance_log_ratio(mean: &Tensor, old: &Tensor, noise: &Tensor, std: f64) -> Tensor {
    let d = mean - old;
    per_sample(&(noise * &d * (2.0 * std) - d.square()))
}

/// Guard's log-ratio of each sample, `[B]`: `std (lp - lp_old + b)` with `b = mean (mu - mu_old)^2 / (2 std^2)`, which
/// is `mean(z (mu - mu_old))`. It has mean 0 on-policy and the same scale at every step. `b` is taken per sample; the
/// released code averages it over the batch (a known slip there).
pub fn log_ratio(mean: &Tensor, old: &Tensor, noise: &Tensor) -> Tensor {
    per_sample(&(noise * (mean - old)))
}

/// The clipped loss of each sample, `[B]`: `max(-A r, -A clip(r, 1 - c, 1 + c))`.
pub fn loss(log_ratio: &Tensor, advantage: &Tensor, clip: f64) -> Tensor {
    let ratio = log_ratio.exp();
    let free = -(advantage * &ratio);
    let cut = -(advantage * ratio.clamp(1.0 - clip, 1.0 + clip));
    free.maximum(&cut)
}

/// Ratios outside the clip range, and all, of the updates of a round in which a ratio can differ from 1: those after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Clipped {
    outside: f64,
    all: f64,
}

impl Clipped {
    /// Their share, 0 where there are none.
    fn share(self) -> f64 {
        if self.all > 0.0 { self.outside / self.all } else { 0.0 }
    }
}

/// One where the ratio is outside `1 - c` to `1 + c`, else zero; `[B]`.
pub fn outside(log_ratio: &Tensor, clip: f64) -> Tensor {
    // As the ratio less 1, which keeps the digits that clip ranges of 1e-6 hang on.
    log_ratio.detach().expm1().abs().gt(clip).to_kind(Kind::Float)
}

/// The very first update was not on-policy.
#[derive(Debug)]
pub struct OffPolicy {
    /// Largest log-ratio met, absolute. It should be 0 up to rounding.
    pub log_ratio: f64,
    /// The clip range.
    pub clip: f64,
}

impl std::fmt::Display for OffPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { log_ratio, clip } = self;
        write!(f, "the first update is not on-policy: a log-ratio is {log_ratio:.1e} with a clip range of {clip:.1e}")
    }
}

impl std::error::Error for OffPolicy {}

/// A teacher in training.
pub struct Grpo<'a> {
    /// Which method of the family.
    pub ratio: Ratio,
    /// Its settings.
    pub config: GrpoConfig,
    /// Base, prompts, reward and rollouts.
    pub collector: RolloutCollector<'a>,
    /// The trained adapter, which also samples.
    pub lora: &'a Lora,
    /// The round's images, while its updates last.
    pub seen: Option<Experience>,
    /// What was clipped in the round so far.
    pub clipped: Clipped,
}

impl Grpo<'_> {
    fn clip(&self) -> f64 {
        self.config.clip_range.unwrap_or(self.ratio.clip())
    }

    /// The steps that round `round` trains, and those of them that its rollout makes noisy (all, if none).
    fn steps(&self, round: u64) -> (Range<usize>, Option<Range<usize>>) {
        let (trained, seed) = (self.collector.schedule().trained(), self.collector.seed);
        let window = self.config.sde_window.map(|w| w.of_round(trained, seed, round));
        (window.clone().unwrap_or(0..trained), window)
    }

    /// Steps that are trained of each image, and how many there are to draw them from.
    fn of_each(&self) -> (usize, usize) {
        let steps = self.steps(0).0.len();
        (self.config.timesteps.unwrap_or(steps).clamp(1, steps), steps)
    }

    /// For each step of round `round` the images that are trained on it in update `update`.
    fn rows(&self, round: u64, update: usize, advantage: &Tensor) -> Result<Vec<(usize, Vec<i64>)>> {
        let Sampling { prompts, group_size: group, .. } = self.collector.sampling;
        let (seed, updates) = (self.collector.seed, self.updates(round));
        let (chosen, steps) = self.of_each();
        let shuffled = if self.config.split == Split::Images { updates } else { 1 };
        let mut images = order_of_round(prompts * group, shuffled, seed, round);
        if self.config.zero_advantage == ZeroAdvantage::Drop {
            let values = Vec::<f32>::try_from(advantage.to_device(Device::Cpu))?;
            // Where all are 0 the round teaches nothing, and goes on as if they counted.
            if values.iter().any(|a| *a != 0.0) {
                images.retain(|i| values[*i as usize] != 0.0);
            }
        }
        // Whole groups where prompts are shared out, even if some of their images are left out.
        let own: Vec<i64> = match self.config.split {
            Split::Images => share(&images, update, updates).to_vec(),
            Split::Prompts => {
                let bounds = [update, update + 1].map(|u| (u * prompts / updates * group) as i64);
                images.into_iter().filter(|i| (bounds[0]..bounds[1]).contains(i)).collect()
            }
        };
        if chosen == steps {
            return Ok(self.steps(round).0.map(|j| (j, own.clone())).collect());
        }
        let drawn = |image: &i64| -> BTreeSet<usize> {
            let order = Choices::new(derive(derive(seed, "times", round), "image", *image as u64)).permutation(steps);
            order.into_iter().take(chosen).collect()
        };
        let drawn: Vec<BTreeSet<usize>> = own.iter().map(drawn).collect();
        let of = |at: usize| own.iter().zip(&drawn).filter(|(_, d)| d.contains(&at)).map(|(i, _)| *i).collect();
        Ok(self.steps(round).0.enumerate().map(|(at, j)| (j, of(at))).collect())
    }

    fn log_ratio(&self, mean: &Tensor, old: &Tensor, noise: &Tensor, std: f64) -> Tensor {
        match (self.ratio, self.config.density(self.ratio)) {
            (Ratio::Guard, _) => log_ratio(mean, old, noise),
            (Ratio::Plain, Density::Gaussian) => plain_log_ratio(mean, old, noise, std),
            (Ratio::Plain, Density::Distance) => distance_log_ratio(mean, old, noise, std),
        }
    }
}

impl Objective for Grpo<'_> {
    fn updates(&self, round: u64) -> usize {
        let wanted = self.collector.settings(round).updates.unwrap_or(self.config.updates);
        let Sampling { prompts, group_size: group, .. } = self.collector.sampling;
        let shared = if self.config.split == Split::Prompts { prompts } else { prompts * group };
        wanted.clamp(1, shared.max(1))
    }

    fn rate(&self, round: u64) -> f64 {
        self.collector.settings(round).rate
    }

    fn gradients(&self) -> u64 {
        let Sampling { prompts, group_size: group, .. } = self.collector.sampling;
        (prompts * group * self.of_each().0) as u64
    }

    fn accumulate(&mut self, round: u64, update: usize) -> Result<Report> {
        let mut report = Report::new();
        if update == 0 {
            let (config, lora, (_, window)) = (&self.config, self.lora, self.steps(round));
            let spread = config.advantage_std.unwrap_or(self.ratio.advantage_std());
            let mut seen = self.collector.collect(lora, &config.solver, window, spread, Keep::All, round)?;
            report = std::mem::take(&mut seen.report);
            (self.seen, self.clipped) = (Some(seen), Clipped::default());
        }
        let seen = self.seen.as_ref().context("an update before its round's rollout")?;
        let (collector, clip) = (&self.collector, self.clip());
        let schedule = collector.schedule();
        let rows = self.rows(round, update, &seen.advantage)?;
        let ratios = rows.iter().map(|(_, images)| images.len()).sum::<usize>();
        let scale = 1.0 / ratios.max(1) as f64;
        let kl = self.config.kl.unwrap_or(self.ratio.kl());
        let canvas = collector.canvas;
        let work: Vec<(usize, &[i64])> = rows
            .iter()
            .flat_map(|(j, images)| {
                canvas.micros(images.len() as i64).map(|(at, count)| (*j, &images[at as usize..(at + count) as usize]))
            })
            .collect();
        let told = leaves::over(canvas.ranks, &self.lora.parameters(), &work, |&(j, own)| {
            let step = self.config.solver.step(&schedule, j);
            let weight = match self.ratio {
                Ratio::Plain => 1.0,
                // Divided by the step's length, every step has the same weight.
                Ratio::Guard => 1.0 / step.length(),
            };
            let part = |x: &Tensor| rows_of(x, own);
            let (x, condition) = (part(&seen.rollout.states[j]), condition_of(&seen.condition, own));
            let trained =
                collector.field(Some(self.lora)).seen_at(&x, step.sigma, &condition, canvas.gradient_checkpointing);
            let mean = step.mean(&x, &trained.velocity, None);
            let (old, noise) = (part(&seen.rollout.means[j]), part(&seen.rollout.noises[j]));
            let log_ratio = self.log_ratio(&mean, &old, &noise, step.std);
            let by_sample = loss(&log_ratio, &part(&seen.advantage), clip) * weight;
            let mut total_loss = by_sample.sum(Kind::Float) * scale;
            let mut told = vec![
                summed(&by_sample, scale),
                log_ratio.detach().abs().max(),
                summed(&outside(&log_ratio, clip), 1.0),
            ];
            if kl > 0.0 {
                let base = {
                    let _off = tch::no_grad_guard();
                    step.mean(&x, &collector.field(None).velocity_at(&x, step.sigma, &condition), None)
                };
                let form = self.config.kl_form.factor(step.length());
                let apart = crate::opd::divergence(&mean, &base, step.std);
                total_loss += apart.sum(Kind::Float) * (kl * form * scale);
                told.push(summed(&apart, form * scale));
            }
            trained.backward(&total_loss);
            Ok(told)
        })?;
        let (policy, off, cut) = (leaves::sum(&told, 0), leaves::most(&told, 1), leaves::sum(&told, 2));
        ensure!(off.is_finite(), NotFinite::new("the ratio of new policy to old"));
        // On-policy the ratio is 1 up to rounding. Anything else at the very first update means that rollout and training
        // do not compute the same function, and no number that follows could be trusted.
        ensure!(round > 0 || update > 0 || off <= clip.max(1e-6), OffPolicy { log_ratio: off, clip });
        report.extend(named([METRICS[0]], [policy]));
        if kl > 0.0 {
            report.extend(named([KL], [leaves::sum(&told, 3)]));
        }
        let last = update + 1 == self.updates(round);
        if update > 0 {
            self.clipped.outside += cut;
            self.clipped.all += ratios as f64;
        }
        if last {
            report.extend(named([METRICS[1]], [self.clipped.share()]));
        }
        report.extend(named([LOG_RATIO[update.min(1)]], [off]));
        Ok(report)
    }

    fn after(&mut self, _round: u64) {
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_models::rng::normal;
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
        let plain = plain_log_ratio(&mean, &old, &noise, std);
        assert!((lp(&mean) - lp(&old) - plain).abs().max().double_value(&[]) < 1e-6);
    }

    /// `log_prob = -mean (x' - mu)^2` of Flow-GRPO's CPS step, new less old, on numbers.
    #[test]
    fn a_ratio_of_distances_by_hand() {
        // Two dimensions: mu_old 1, 2; std 0.5; z 2, -1, so x' is 2, 1.5; mu 1.5, 2.5: -(0.25 + 1) / 2 + (1 + 0.25) / 2 = 0.
        let of = |values: [f32; 2]| Tensor::from_slice(&values).view([1, 1, 1, 2]);
        let ratio = |mean| distance_log_ratio(&of(mean), &of([1.0, 2.0]), &of([2.0, -1.0]), 0.5).double_value(&[0]);
        assert!(ratio([1.5, 2.5]).abs() < 1e-6 && ratio([1.0, 2.0]).abs() < 1e-9);
        // mu 2, 2: -(0 + 0.25) / 2 + 0.625 = 0.5.
        assert!((ratio([2.0, 2.0]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn on_policy_the_ratio_is_one_and_the_gradient_is_the_policy_gradient() {
        let noise = normal(&[2, 1, 2, 2], 5, Device::Cpu);
        let old = normal(&[2, 1, 2, 2], 6, Device::Cpu);
        let mean = old.copy().set_requires_grad(true);
        let ratio = log_ratio(&mean, &old, &noise);
        assert_eq!(ratio.abs().max().double_value(&[]), 0.0);
        let advantage = Tensor::from_slice(&[1.5_f32, -0.5]);
        loss(&ratio, &advantage, 1e-4).sum(Kind::Float).backward();
        // d/dmu of -A mean(z d)
        let expected = -(&noise * advantage.view([2, 1, 1, 1])) / 4.0;
        assert!((mean.grad() - expected).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn what_is_outside_the_clip_range_by_hand() {
        let of = |logs: &Tensor, clip: f64| Vec::<f32>::try_from(outside(logs, clip)).unwrap();
        // 1.21 is outside 0.8 to 1.2, though its logarithm is 0.19; 0.82 is inside, 0.79 not.
        let ratios = Tensor::from_slice(&[1.05_f32, 1.21, 0.82, 0.79]);
        assert_eq!(of(&ratios.log(), 0.2), [0.0, 1.0, 0.0, 1.0]);
        let near = Tensor::from_slice(&[1.9e-6_f32, 2.1e-6, -1.9e-6, -2.1e-6]);
        assert_eq!(of(&near, 2e-6), [0.0, 1.0, 0.0, 1.0]);
        // Two updates after the first with 6 ratios each, of which 2 and 1 are outside.
        assert_eq!(Clipped { outside: 3.0, all: 12.0 }.share(), 0.25);
        assert_eq!(Clipped::default().share(), 0.0);
    }

    #[test]
    fn the_clip_stops_what_went_too_far_and_only_that() {
        let l = |ratio: f64, a: f64| {
            let lr = Tensor::from_slice(&[ratio.ln() as f32]).set_requires_grad(true);
            loss(&lr, &Tensor::from_slice(&[a as f32]), 0.1).sum(Kind::Float).backward();
            lr.grad().double_value(&[0])
        };
        assert_eq!(l(1.2, 1.0), 0.0);
        assert_eq!(l(0.8, -1.0), 0.0);
        assert!(l(1.2, -1.0) > 0.0 && l(0.8, 1.0) < 0.0 && l(1.05, 1.0) < 0.0);
    }
}
