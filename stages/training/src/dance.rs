//! DanceOPD: one rollout of the student, and one state of it at which the velocities are matched.

pub use opdflow_spec::dance::*;

use crate::objective::{Objective, Report};
use crate::opd::divergence;
use crate::school::School;
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
    /// Student and lessons.
    pub school: School<'a>,
}

impl Dance<'_> {
    fn lesson(&self, index: usize, round: u64) -> Result<f64> {
        let (config, school) = (&self.config, &self.school);
        let (class, schedule, student) = (school.class(index, round)?, school.schedule(), school.student());
        let seen = school.rollout(&student, &class, &Solver::default(), Keep::All);
        let mut choices = Choices::new(derive(class.seed, "place", 0));
        let [a, b] = config.beta;
        let trained = schedule.trained();
        let place = |choices: &mut Choices| ((beta(choices, a, b) * trained as f64) as usize).min(trained - 1);
        let places: Vec<usize> = (0..class.len()).map(|_| place(&mut choices)).collect();
        let rows: Vec<Tensor> =
            places.iter().enumerate().map(|(i, &j)| seen.states[j].narrow(0, i as i64, 1)).collect();
        let x = Tensor::cat(&rows, 0);
        let sigma: Vec<f32> = places.iter().map(|&j| schedule.sigma(j) as f32).collect();
        let sigma = Tensor::from_slice(&sigma).to_device(school.canvas.device);
        let scale = 1.0 / class.len() as f64;
        let mut sum = Tally::default();
        for (at, count) in school.canvas.micros(class.len()) {
            let (x, sigma, condition) =
                (x.narrow(0, at, count), sigma.narrow(0, at, count), class.condition.narrow(at, count));
            let goal = {
                let _off = tch::no_grad_guard();
                school.teacher(index).velocity(&x, &sigma, &condition)
            };
            let trained = student.seen(&x, &sigma, &condition, school.canvas.recompute);
            let loss = divergence(&trained.velocity, &goal, 0.0).sum(Kind::Float) * scale;
            trained.backward(&(&loss * (1.0 / school.lessons.len() as f64)));
            sum.add(&loss, 1.0);
        }
        Ok(sum.read())
    }
}

impl Objective for Dance<'_> {
    fn gradients(&self) -> u64 {
        self.school.pictures()
    }

    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        self.school.round(|index| self.lesson(index, round))
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
