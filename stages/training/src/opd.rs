//! DiffusionOPD: on-policy distillation of several teachers into one student.
//!
//! The student samples with its own adapter; at every state that it visits it is pulled towards the step that the
//! task's teacher would take there. Parameters do not change within a round, so the forward that samples `x_j` is
//! the forward that is trained: it runs once, with its graph, the step's loss is back-propagated at once, and the
//! state moves on detached. One student forward and the memory of one step, with the gradient of rollout-then-train.

pub use opdflow_spec::opd::*;

use crate::State;
use crate::distillation::{Batch, Distillation};
use crate::leaves::{self, summed};
use crate::objective::{Objective, Report};
use crate::teacher::per_sample;
use anyhow::Result;
use opdflow_models::condition::Condition;
use opdflow_models::solver::TakeStep as _;
use tch::{Kind, Tensor};

/// KL divergence of two normal steps of equal standard deviation, as a mean over dimensions, `[B]`:
/// `(mu - mu')^2 / (2 std^2)`; without noise, `(mu - mu')^2 / 2`. No gradient flows through `to`.
pub fn divergence(mean: &Tensor, to: &Tensor, std: f64) -> Tensor {
    let variance = if std > 0.0 { (std * std).max(1e-8) } else { 1.0 };
    per_sample(&(mean - to.detach()).square()) / (2.0 * variance)
}

/// A student in training.
pub struct Opd<'a> {
    /// Settings of the method.
    pub config: OpdConfig,
    /// Student and teachers.
    pub distillation: Distillation<'a>,
    /// What remains of the tasks' losses.
    pub remaining: Remaining,
}

/// The first loss of each task and a running average of it, for [`Balance::Remaining`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remaining {
    first: Vec<f64>,
    now: Vec<f64>,
}

impl Remaining {
    /// Takes in one round's losses.
    pub fn take(&mut self, losses: &[f64]) {
        if self.first.len() != losses.len() {
            (self.first, self.now) = (losses.to_vec(), losses.to_vec());
        }
        for (now, loss) in self.now.iter_mut().zip(losses) {
            *now = 0.9 * *now + 0.1 * loss;
        }
    }

    /// The factor of task `index`, mean 1 before the cut to `[0.2, 5]`.
    #[must_use]
    pub fn weight(&self, index: usize) -> f64 {
        let share = |i: usize| self.now[i] / self.first[i].max(1e-12);
        let mean = (0..self.now.len()).map(share).sum::<f64>() / self.now.len().max(1) as f64;
        if index < self.now.len() && mean > 0.0 { (share(index) / mean).clamp(0.2, 5.0) } else { 1.0 }
    }
}

impl Opd<'_> {
    /// The loss of one step, `[B]`, before factors. `x`, `v`, `goal`: state and velocities, `[B, C, H, W]`.
    fn distance(&self, step: &opdflow_models::Step, x: &Tensor, v: &Tensor, goal: &Tensor) -> Tensor {
        let apart = match self.config.matching {
            Match::Mean => {
                let factor = if step.std > 0.0 { self.config.kl_form.factor(step.length()) } else { 1.0 };
                divergence(&step.mean(x, v, None), &step.mean(x, goal, None), step.std) * factor
            }
            Match::Velocity => divergence(v, goal, 0.0),
            Match::Clean => divergence(v, goal, 0.0) * (step.sigma * step.sigma),
        };
        if !self.config.normalize {
            return apart;
        }
        // Relative to the distance itself, whatever is matched: its scale cancels up to one factor of the step.
        apart / per_sample(&(v.detach() - goal).abs()).clamp_min(1e-5)
    }

    /// One round of all tasks, each with its weight on its gradient; returns the mean loss of each without it.
    ///
    /// The tasks' images stand side by side: the student is asked for all of them at once, as far as a micro-batch goes, and
    /// each teacher for its own. On small networks a few large batches cost less than many small ones.
    fn learn(&self, round: u64, weights: &[f64]) -> Result<Vec<f64>> {
        let distillation = &self.distillation;
        let batches = (0..weights.len()).map(|index| distillation.batch(index, round)).collect::<Result<Vec<_>>>()?;
        let condition = Condition::cat(&batches.iter().map(|batch| &batch.condition).collect::<Vec<_>>());
        let start = Tensor::cat(&batches.iter().map(|batch| &batch.start).collect::<Vec<_>>(), 0);
        let (canvas, params) = (distillation.canvas, distillation.lora.parameters());
        let work: Vec<(i64, i64)> = canvas.micros(start.size()[0]).collect();
        let told = leaves::over(canvas.ranks, &params, &work, |&(at, count)| {
            let shares = shares(&batches, at, count);
            let (start, condition) = (start.narrow(0, at, count), condition.narrow(at, count));
            Ok(self.learn_along(&batches, &shares, start, &condition, weights))
        })?;
        Ok((0..weights.len()).map(|task| leaves::sum(&told, task)).collect())
    }

    /// The steps of one micro-batch from `x`, of which the tasks have these shares. Gives each task's part of the loss.
    fn learn_along(
        &self,
        batches: &[Batch],
        shares: &[Share],
        mut x: Tensor,
        condition: &Condition,
        weights: &[f64],
    ) -> Vec<Tensor> {
        let (config, distillation) = (&self.config, &self.distillation);
        let (schedule, student) = (distillation.schedule(), distillation.student());
        let mut sums: Vec<Tensor> = weights.iter().map(|_| Tensor::zeros([], (Kind::Double, x.device()))).collect();
        for j in 0..schedule.trained() {
            let step = distillation.sampling.solver.step(&schedule, j);
            let joined = |of: &dyn Fn(&Share) -> Tensor| Tensor::cat(&shares.iter().map(of).collect::<Vec<_>>(), 0);
            let goal = {
                let _off = tch::no_grad_guard();
                joined(&|share| {
                    let condition = condition.narrow(share.here, share.count);
                    distillation.teacher(share.task).velocity_at(&share.of(&x), step.sigma, &condition)
                })
            };
            let seen = student.seen_at(&x, step.sigma, condition, distillation.canvas.gradient_checkpointing);
            let v = &seen.velocity;
            let mut loss = self.distance(&step, &x, v, &goal);
            if config.anchor > 0.0 {
                let base = {
                    let _off = tch::no_grad_guard();
                    distillation.base().velocity_at(&x, step.sigma, condition)
                };
                loss += self.distance(&step, &x, v, &base) * config.anchor;
            }
            let factor = config.step_weights.get(j).copied().unwrap_or(1.0);
            let mut total = Tensor::zeros([], (Kind::Float, x.device()));
            for share in shares {
                let scale = factor / (batches[share.task].len() as usize * schedule.trained()) as f64;
                let loss = share.of(&loss).sum(Kind::Float) * scale;
                total += &loss * (weights[share.task] / weights.len() as f64);
                sums[share.task] += summed(&loss, 1.0);
            }
            let next = step.mean(&x, v, None).detach();
            seen.backward(&total);
            x = next;
            if step.std > 0.0 {
                let noise = |share: &Share| batches[share.task].noise("step", j).narrow(0, share.at, share.count);
                x += joined(&noise) * step.std;
            }
        }
        sums
    }
}

/// Images of one task in a micro-batch.
struct Share {
    task: usize,
    /// Where they begin in the micro-batch, and in the task's own batch.
    here: i64,
    at: i64,
    count: i64,
}

impl Share {
    /// Their rows of what the micro-batch has.
    fn of(&self, rows: &Tensor) -> Tensor {
        rows.narrow(0, self.here, self.count)
    }
}

/// The shares of `batches`, one after another, in the `count` rows from `from`.
fn shares(batches: &[Batch], from: i64, count: i64) -> Vec<Share> {
    let (mut found, mut start) = (Vec::new(), 0);
    for (task, batch) in batches.iter().enumerate() {
        let (first, end) = (start.max(from), (start + batch.len()).min(from + count));
        if first < end {
            found.push(Share { task, here: first - from, at: first - start, count: end - first });
        }
        start += batch.len();
    }
    found
}

impl Objective for Opd<'_> {
    fn gradients(&self) -> u64 {
        self.distillation.images() * self.distillation.schedule().trained() as u64
    }

    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        let balanced = self.config.balance == Balance::Remaining;
        let weight = |index| if balanced { self.remaining.weight(index) } else { 1.0 };
        let weights: Vec<f64> = (0..self.distillation.teachers.len()).map(weight).collect();
        let losses = self.learn(round, &weights)?;
        let mut report = self.distillation.report(losses.iter().copied());
        if balanced {
            let names = self.distillation.teachers.iter().map(|l| l.task.name()).enumerate();
            report.extend(names.map(|(i, name)| (format!("weight_{name}"), self.remaining.weight(i))));
            self.remaining.take(&losses);
        }
        Ok(report)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        if self.remaining.first.is_empty() {
            return Vec::new();
        }
        let of = |values: &[f64]| Tensor::from_slice(values);
        vec![("remaining.first".into(), of(&self.remaining.first)), ("remaining.now".into(), of(&self.remaining.now))]
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        if self.config.balance == Balance::Remaining {
            let of = |name: &str| -> Result<Vec<f64>> { Ok(Vec::try_from(state.get(name)?)?) };
            self.remaining = Remaining { first: of("remaining.first")?, now: of("remaining.now")? };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_models::rng::normal;
    use opdflow_models::{Schedule, Solver};
    use tch::Device;

    #[test]
    fn divergence_by_hand_and_by_finite_differences() {
        let to = normal(&[2, 1, 2, 2], 1, Device::Cpu);
        let mean = (&to + normal(&[2, 1, 2, 2], 2, Device::Cpu)).set_requires_grad(true);
        for (std, factor) in [(0.0, 0.5), (0.5, 2.0)] {
            let l = divergence(&mean, &to, std);
            let expected = per_sample(&(&mean - &to).square()) * factor;
            assert!((&l - expected).abs().max().double_value(&[]) < 1e-6);
            let g = Tensor::run_backward(&[l.sum(Kind::Float)], &[&mean], false, false).remove(0);
            // (mu - mu') / (n std^2)
            let by_hand = (mean.detach() - &to) * (2.0 * factor / 4.0);
            assert!((g - by_hand).abs().max().double_value(&[]) < 1e-6);
        }
        assert_eq!(divergence(&to, &to, 0.3).abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn a_micro_batch_is_shared_out_among_the_tasks_it_reaches_into() {
        let batch = |count: i64| {
            let start = Tensor::zeros([count, 1, 2, 2], (Kind::Float, Device::Cpu));
            Batch { condition: Condition::new([("x", start.shallow_clone())]).unwrap(), start, seed: 0 }
        };
        let batches = [batch(3), batch(1), batch(4)];
        let found = |from, count| -> Vec<(usize, i64, i64, i64)> {
            shares(&batches, from, count).iter().map(|s| (s.task, s.here, s.at, s.count)).collect()
        };
        assert_eq!(found(0, 8), [(0, 0, 0, 3), (1, 3, 0, 1), (2, 4, 0, 4)]);
        // Rows 2, 3, 4 are the first task's last, the second's only one and the third's first.
        assert_eq!(found(2, 3), [(0, 0, 2, 1), (1, 1, 0, 1), (2, 2, 0, 1)]);
        assert_eq!(found(5, 3), [(2, 0, 1, 3)]);
    }

    #[test]
    fn an_odes_steps_weigh_as_their_squared_length() {
        // Share of each trained step in the loss when the velocities miss by the same amount everywhere.
        let schedule = Schedule::new(10, 3.0);
        let square: Vec<f64> = (0..9).map(|j| Solver::default().step(&schedule, j).velocity.powi(2)).collect();
        let total: f64 = square.iter().sum();
        for (s, e) in square.iter().zip([0.010, 0.014, 0.020, 0.029, 0.044, 0.071, 0.121, 0.224, 0.466]) {
            assert!((s / total - e).abs() < 6e-4, "{} {e}", s / total);
        }
    }

    /// Shares of the last two trained steps of ten with noise 0.7, when the velocities miss by the same amount everywhere: the
    /// mean's coefficient of the velocity squared over `2 s^2 |dt|` (paper) or `2 s^2` (code), from Flow-GRPO's published step.
    #[test]
    fn a_noisy_step_weighs_by_the_form_of_the_divergence() {
        let schedule = Schedule::new(10, 3.0);
        let weights = |form: crate::grpo::KlForm| -> Vec<f64> {
            let weight = |j: usize| {
                let step = Solver::Flow { noise_level: 0.7 }.step(&schedule, j);
                step.velocity.powi(2) / (2.0 * step.std.powi(2)) * form.factor(step.length())
            };
            let all: Vec<f64> = (0..9).map(weight).collect();
            all.iter().map(|w| w / all.iter().sum::<f64>()).collect()
        };
        let close = |found: &[f64], wanted: [f64; 2]| {
            assert!((found[7] - wanted[0]).abs() < 1e-3 && (found[8] - wanted[1]).abs() < 1e-3, "{found:?}");
        };
        close(&weights(crate::grpo::KlForm::Paper), [0.197, 0.641]);
        close(&weights(crate::grpo::KlForm::Code), [0.162, 0.757]);
    }

    #[test]
    fn a_task_that_lags_weighs_more() {
        let mut remaining = Remaining::default();
        assert_eq!(remaining.weight(0), 1.0);
        remaining.take(&[2.0, 4.0]);
        assert_eq!((remaining.weight(0), remaining.weight(1)), (1.0, 1.0));
        (0..200).for_each(|_| remaining.take(&[0.5, 3.0]));
        // Shares 1/4 and 3/4 of the first losses, mean 1/2.
        assert!((remaining.weight(0) - 0.5).abs() < 1e-6 && (remaining.weight(1) - 1.5).abs() < 1e-6);
    }
}
