//! Distillation away from the student's own path: flow matching on images of the teachers (SFT).

pub use opdflow_spec::sft::*;

use crate::distillation::Distillation;
use crate::objective::{Objective, Report};
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
    /// Student and teachers.
    pub distillation: Distillation<'a>,
}

impl Sft<'_> {
    fn learn_from(&self, index: usize, round: u64) -> Result<f64> {
        let (config, distillation) = (&self.config, &self.distillation);
        let (batch, schedule) = (distillation.batch(index, round)?, distillation.schedule());
        let shown = distillation.rollout(&distillation.teacher(index), &batch, &Solver::default(), Keep::Last);
        let x0 = shown.last();
        let times = config.timesteps.unwrap_or(schedule.trained()).clamp(1, schedule.trained());
        let mut choices = Choices::new(derive(batch.seed, "times", 0));
        let orders: Vec<Vec<usize>> = (0..batch.len()).map(|_| choices.permutation(schedule.trained())).collect();
        let scale = 1.0 / (batch.len() as usize * times) as f64;
        let mut sum = Tally::default();
        for m in 0..times {
            let t: Vec<f32> = orders.iter().map(|o| schedule.sigma(o[m]) as f32).collect();
            let t = Tensor::from_slice(&t).to_device(distillation.canvas.device);
            let noise = batch.noise("diffuse", m);
            for (at, count) in distillation.canvas.micros(batch.len()) {
                let cut = |x: &Tensor| x.narrow(0, at, count);
                let (x0, t, noise) = (cut(x0), cut(&t), cut(&noise));
                let level = t.view([-1, 1, 1, 1]);
                let xt = (1.0 - &level) * &x0 + &level * &noise;
                let condition = batch.condition.narrow(at, count);
                let trained =
                    distillation.student().seen(&xt, &t, &condition, distillation.canvas.gradient_checkpointing);
                let loss = per_sample(&(&trained.velocity - (noise - x0)).square()).sum(Kind::Float) * scale;
                trained.backward(&(&loss * (1.0 / distillation.teachers.len() as f64)));
                sum.add(&loss, 1.0);
            }
        }
        Ok(sum.read())
    }
}

impl Objective for Sft<'_> {
    fn gradients(&self) -> u64 {
        let trained = self.distillation.schedule().trained();
        self.distillation.images() * self.config.timesteps.unwrap_or(trained).clamp(1, trained) as u64
    }

    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        self.distillation.round(|index| self.learn_from(index, round))
    }
}
