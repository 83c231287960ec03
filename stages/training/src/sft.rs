//! Distillation away from the student's own path: flow matching on pictures of the teachers (SFT).

pub use opdflow_spec::sft::*;

use crate::objective::{Objective, Report};
use crate::school::School;
use crate::tally::Tally;
use crate::teacher::per_sample;
use anyhow::Result;
use opdflow_models::Solver;
use opdflow_models::rng::{Choices, derive};
use opdflow_models::rollout::Keep;
use tch::{Kind, Tensor};

/// A student in training.
pub struct Sft<'a> {
    /// Settings of the method.
    pub config: SftConfig,
    /// Student and lessons.
    pub school: School<'a>,
}

impl Sft<'_> {
    fn lesson(&self, index: usize, round: u64) -> Result<f64> {
        let (config, school) = (&self.config, &self.school);
        let (class, schedule) = (school.class(index, round)?, school.schedule());
        let shown = school.rollout(&school.teacher(index), &class, &Solver::default(), Keep::Last);
        let x0 = shown.last();
        let times = config.times.unwrap_or(schedule.trained()).clamp(1, schedule.trained());
        let mut choices = Choices::new(derive(class.seed, "times", 0));
        let orders: Vec<Vec<usize>> = (0..class.len()).map(|_| choices.permutation(schedule.trained())).collect();
        let scale = 1.0 / (class.len() as usize * times) as f64;
        let mut sum = Tally::default();
        for m in 0..times {
            let t: Vec<f32> = orders.iter().map(|o| schedule.sigma(o[m]) as f32).collect();
            let t = Tensor::from_slice(&t).to_device(school.canvas.device);
            let noise = class.noise("diffuse", m);
            for (at, count) in school.canvas.micros(class.len()) {
                let cut = |x: &Tensor| x.narrow(0, at, count);
                let (x0, t, noise) = (cut(x0), cut(&t), cut(&noise));
                let level = t.view([-1, 1, 1, 1]);
                let xt = (1.0 - &level) * &x0 + &level * &noise;
                let condition = class.condition.narrow(at, count);
                let trained = school.student().seen(&xt, &t, &condition, school.canvas.recompute);
                let loss = per_sample(&(&trained.velocity - (noise - x0)).square()).sum(Kind::Float) * scale;
                trained.backward(&(&loss * (1.0 / school.lessons.len() as f64)));
                sum.add(&loss, 1.0);
            }
        }
        Ok(sum.read())
    }
}

impl Objective for Sft<'_> {
    fn gradients(&self) -> u64 {
        let trained = self.school.schedule().trained();
        self.school.pictures() * self.config.times.unwrap_or(trained).clamp(1, trained) as u64
    }

    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        self.school.round(|index| self.lesson(index, round))
    }
}
