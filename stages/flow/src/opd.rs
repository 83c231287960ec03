//! DiffusionOPD: on-policy distillation of several teachers into one student.
//!
//! The student samples with its own adapter; at every state that it visits it is pulled towards the step that the
//! task's teacher would take there. Parameters do not change within a round, so the forward that samples `x_j` is
//! the forward that is trained: it runs once, with its graph, the step's loss is back-propagated at once, and the
//! state moves on detached. One student forward and the memory of one step, with the gradient of rollout-then-train.

use crate::field::{Field, Guidance};
use crate::lora::Lora;
use crate::mmdit::Mmdit;
use crate::objective::{Objective, Report};
use crate::rng::{derive, normal};
use crate::task::{Task, prompts_of_round};
use crate::teacher::{Canvas, per_sample};
use crate::text::embed::Embedded;
use crate::{Schedule, Solver};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What is matched at each visited state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// The means of the step: the closed-form KL of an SDE (paper eq. 10), half the squared distance of an ODE (eq. 12).
    #[default]
    Mean,
    /// The velocities, half the squared distance: every step counts alike.
    Velocity,
}

/// Settings of the distillation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpdConfig {
    /// Solver of the student's rollout. Noise level 0 is the ODE.
    pub solver: Solver,
    /// Denoising steps.
    pub steps: usize,
    /// Prompts of each task in a round; one picture each.
    pub prompts: usize,
    /// The student's guidance scale.
    pub guidance: f64,
    /// What is matched.
    pub matching: Match,
}

impl Default for OpdConfig {
    /// The paper's: ODE, ten steps, 24 pictures of each task, guidance 4.5.
    fn default() -> Self {
        Self { solver: Solver::default(), steps: 10, prompts: 24, guidance: 4.5, matching: Match::Mean }
    }
}

/// KL divergence of two normal steps of equal standard deviation, as a mean over dimensions, `[B]`:
/// `(mu - mu')^2 / (2 std^2)`; without noise, `(mu - mu')^2 / 2`. No gradient flows through `to`.
pub fn divergence(mean: &Tensor, to: &Tensor, std: f64) -> Tensor {
    let variance = if std > 0.0 { (std * std).max(1e-8) } else { 1.0 };
    per_sample(&(mean - to.detach()).square()) / (2.0 * variance)
}

/// A frozen teacher with its task.
pub struct Lesson<'a> {
    /// The adapter.
    pub teacher: &'a Lora,
    /// The teacher's own guidance scale.
    pub guidance: f64,
    /// The task's prompts. Its reward is not used.
    pub task: &'a dyn Task,
}

/// A student in training.
pub struct Opd<'a> {
    /// Settings of the method.
    pub config: OpdConfig,
    /// Latents and device.
    pub canvas: Canvas,
    /// The network that student and teachers share.
    pub model: &'a Mmdit,
    /// The encoded empty prompt.
    pub empty: &'a Embedded,
    /// The student's adapter.
    pub lora: &'a Lora,
    /// Teachers, visited in this order.
    pub lessons: Vec<Lesson<'a>>,
    /// The seed.
    pub seed: u64,
}

impl Opd<'_> {
    /// One lesson of one round; returns the mean loss.
    fn lesson(&self, index: usize, round: u64) -> Result<f64> {
        let lesson = &self.lessons[index];
        let stream = derive(self.seed, "lesson", index as u64);
        let chosen = prompts_of_round(lesson.task.prompts(), self.config.prompts, stream, round);
        let condition = lesson.task.condition(&chosen)?;
        let schedule = Schedule::new(self.config.steps, self.canvas.shift);
        let start = self.canvas.noise(chosen.len(), derive(stream, "start", round));
        let field = |lora, guidance| Field {
            model: self.model,
            lora: Some(lora),
            guidance: Guidance { scale: guidance, empty: self.empty },
        };
        let (student, teacher) = (field(self.lora, self.config.guidance), field(lesson.teacher, lesson.guidance));
        let scale = 1.0 / (chosen.len() * schedule.trained() * self.lessons.len()) as f64;
        let mut sum = 0.0;
        for (at, count) in self.canvas.micros(chosen.len() as i64) {
            let condition = condition.narrow(at, count);
            let mut x = start.narrow(0, at, count);
            for j in 0..schedule.trained() {
                let step = self.config.solver.step(&schedule, j);
                let goal = {
                    let _off = tch::no_grad_guard();
                    teacher.velocity_at(&x, step.sigma, &condition)
                };
                let v = student.velocity_at(&x, step.sigma, &condition);
                let mean = step.mean(&x, &v, None);
                let loss = match self.config.matching {
                    Match::Mean => divergence(&mean, &step.mean(&x, &goal, None), step.std),
                    Match::Velocity => divergence(&v, &goal, 0.0),
                };
                let loss = loss.sum(Kind::Float) * scale;
                loss.backward();
                sum += loss.double_value(&[]);
                x = mean.detach();
                if step.std > 0.0 {
                    let noise = normal(
                        &start.size(),
                        derive(derive(stream, "rollout", round), "step", j as u64),
                        self.canvas.device,
                    );
                    x += noise.narrow(0, at, count) * step.std;
                }
            }
        }
        Ok(sum)
    }
}

impl Objective for Opd<'_> {
    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        let mut report = Report::new();
        let mut total = 0.0;
        for index in 0..self.lessons.len() {
            let loss = self.lesson(index, round)?;
            total += loss;
            report.push((format!("loss_{}", self.lessons[index].task.name()), loss * self.lessons.len() as f64));
        }
        report.push(("loss".to_owned(), total));
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn an_odes_steps_weigh_as_their_squared_length() {
        // Share of each trained step in the loss when the velocities miss by the same amount everywhere.
        let schedule = Schedule::new(10, 3.0);
        let square: Vec<f64> = (0..9).map(|j| Solver::default().step(&schedule, j).velocity.powi(2)).collect();
        let total: f64 = square.iter().sum();
        for (s, e) in square.iter().zip([0.010, 0.014, 0.020, 0.029, 0.044, 0.071, 0.121, 0.224, 0.466]) {
            assert!((s / total - e).abs() < 6e-4, "{} {e}", s / total);
        }
    }
}
