//! DanceOPD: one rollout of the student, and one state of it at which the velocities are matched.

pub use opdflow_spec::dance::*;

use crate::distillation::{Batch, Distillation};
use crate::objective::{Objective, Report};
use crate::opd::divergence;
use anyhow::Result;
use opdflow_models::Solver;
use opdflow_models::rng::{Choices, derive};
use opdflow_models::rollout::Keep;
use opdflow_models::transfer::send;
use tch::{Kind, Tensor};

/// A number in `[0, 1)` from Beta(a, b): the `a`-th smallest of `a + b - 1` uniform ones.
pub fn beta(choices: &mut Choices, a: u32, b: u32) -> f64 {
    let mut drawn: Vec<f64> = (0..(a.max(1) + b.max(1) - 1)).map(|_| choices.unit()).collect();
    drawn.sort_unstable_by(f64::total_cmp);
    drawn[a.max(1) as usize - 1]
}

/// A student in training.
pub struct Dance<'a> {
    /// Settings of the method.
    pub config: DanceConfig,
    /// Student and teachers.
    pub distillation: Distillation<'a>,
}

impl Dance<'_> {
    /// One state of each image of a task: the batch, the states, `[B, C, H, W]`, and their noise levels, `[B]`.
    fn states(&self, index: usize, round: u64) -> Result<(Batch, Tensor, Tensor)> {
        let (config, distillation) = (&self.config, &self.distillation);
        let (batch, schedule) = (distillation.batch(index, round)?, distillation.schedule());
        let seen = distillation.rollout(&distillation.student(), &batch, &Solver::default(), Keep::All)?;
        let mut choices = Choices::new(derive(batch.seed, "place", 0));
        let [a, b] = config.beta;
        let trained = schedule.trained();
        let place = |choices: &mut Choices| ((beta(choices, a, b) * trained as f64) as usize).min(trained - 1);
        let places: Vec<usize> = (0..batch.len()).map(|_| place(&mut choices)).collect();
        let rows: Vec<Tensor> =
            places.iter().enumerate().map(|(i, &j)| seen.states[j].narrow(0, i as i64, 1)).collect();
        let sigma: Vec<f32> = places.iter().map(|&j| schedule.sigma(j) as f32).collect();
        let sigma = send(&Tensor::from_slice(&sigma), distillation.canvas.device);
        Ok((batch, Tensor::cat(&rows, 0), sigma))
    }

    fn learn(&self, round: u64) -> Result<Vec<f64>> {
        let (distillation, student) = (&self.distillation, self.distillation.student());
        let seen =
            (0..distillation.teachers.len()).map(|index| self.states(index, round)).collect::<Result<Vec<_>>>()?;
        let images: Vec<i64> = seen.iter().map(|(batch, ..)| batch.len()).collect();
        let told = distillation.learn(&distillation.lora.parameters(), &images, 1, |piece| {
            let (batch, x, sigma) = &seen[piece.task];
            let (x, sigma, condition) = (piece.of(x), piece.of(sigma), batch.condition.narrow(piece.at, piece.count));
            let goal = {
                let _off = tch::no_grad_guard();
                distillation.teacher(piece.task).velocity(&x, &sigma, &condition)
            };
            let trained = student.seen(&x, &sigma, &condition, distillation.canvas.gradient_checkpointing);
            let loss = divergence(&trained.velocity, &goal, 0.0).sum(Kind::Float) * (1.0 / batch.len() as f64);
            trained.backward(&(&loss * (1.0 / distillation.teachers.len() as f64)));
            Ok(vec![loss])
        })?;
        Ok(told.into_iter().filter_map(|sums| sums.first().copied()).collect())
    }
}

impl Objective for Dance<'_> {
    fn gradients(&self) -> u64 {
        self.distillation.images()
    }

    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        Ok(self.distillation.report(self.learn(round)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_has_its_moments() {
        let mut choices = Choices::new(4);
        let drawn: Vec<f64> = (0..20_000).map(|_| beta(&mut choices, 5, 2)).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
        // a / (a + b), and a b / ((a + b)^2 (a + b + 1))
        assert!((mean - 5.0 / 7.0).abs() < 0.005, "{mean}");
        assert!((variance - 10.0 / (49.0 * 8.0)).abs() < 0.001, "{variance}");
    }
}
