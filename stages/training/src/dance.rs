//! DanceOPD: one rollout of the student, and one state of it at which the velocities are matched.

pub use opdflow_spec::dance::*;

use crate::distillation::Distillation;
use crate::objective::{Objective, Report};
use crate::opd::divergence;
use crate::tally::Tally;
use anyhow::Result;
use opdflow_models::Solver;
use opdflow_models::rng::{Choices, derive};
use opdflow_models::rollout::Keep;
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
    fn learn_from(&self, index: usize, round: u64) -> Result<f64> {
        let (config, distillation) = (&self.config, &self.distillation);
        let (batch, schedule, student) =
            (distillation.batch(index, round)?, distillation.schedule(), distillation.student());
        let seen = distillation.rollout(&student, &batch, &Solver::default(), Keep::All);
        let mut choices = Choices::new(derive(batch.seed, "place", 0));
        let [a, b] = config.beta;
        let trained = schedule.trained();
        let place = |choices: &mut Choices| ((beta(choices, a, b) * trained as f64) as usize).min(trained - 1);
        let places: Vec<usize> = (0..batch.len()).map(|_| place(&mut choices)).collect();
        let rows: Vec<Tensor> =
            places.iter().enumerate().map(|(i, &j)| seen.states[j].narrow(0, i as i64, 1)).collect();
        let x = Tensor::cat(&rows, 0);
        let sigma: Vec<f32> = places.iter().map(|&j| schedule.sigma(j) as f32).collect();
        let sigma = Tensor::from_slice(&sigma).to_device(distillation.canvas.device);
        let scale = 1.0 / batch.len() as f64;
        let mut sum = Tally::default();
        for (at, count) in distillation.canvas.micros(batch.len()) {
            let (x, sigma, condition) =
                (x.narrow(0, at, count), sigma.narrow(0, at, count), batch.condition.narrow(at, count));
            let goal = {
                let _off = tch::no_grad_guard();
                distillation.teacher(index).velocity(&x, &sigma, &condition)
            };
            let trained = student.seen(&x, &sigma, &condition, distillation.canvas.gradient_checkpointing);
            let loss = divergence(&trained.velocity, &goal, 0.0).sum(Kind::Float) * scale;
            trained.backward(&(&loss * (1.0 / distillation.teachers.len() as f64)));
            sum.add(&loss, 1.0);
        }
        Ok(sum.read())
    }
}

impl Objective for Dance<'_> {
    fn gradients(&self) -> u64 {
        self.distillation.images()
    }

    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        self.distillation.round(|index| self.learn_from(index, round))
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
