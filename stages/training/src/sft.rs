//! Distillation away from the student's own path: flow matching on images of the teachers (SFT).

pub use opdflow_spec::sft::*;

use crate::distillation::{Batch, Distillation};
use crate::objective::{Objective, Report};
use crate::teacher::per_sample;
use anyhow::Result;
use opdflow_models::rng::{Choices, derive, normal};
use opdflow_models::rollout::Keep;
use opdflow_models::transfer::send;
use opdflow_models::{Schedule, Solver};
use opdflow_spec::schedule::TRAIN_STEPS;
use tch::{Device, Kind, Tensor};

/// A student in training.
pub struct Sft<'a> {
    /// Settings of the method.
    pub config: SftConfig,
    /// Student and teachers.
    pub distillation: Distillation<'a>,
}

/// The noise levels of one round, for each of `times` passes one of every image.
fn levels(
    from: Levels,
    seed: u64,
    images: usize,
    times: usize,
    schedule: &Schedule,
    training_sigma: &dyn Fn(f64) -> f64,
) -> Vec<Vec<f32>> {
    match from {
        Levels::LogitNormal => {
            let place = |z: f32| 1.0 / (1.0 + f64::from(-z).exp());
            // As diffusers: the place in the table, which begins at the noisy end, is rounded down.
            let sigma = |z: f32| training_sigma(1.0 - (place(z) * TRAIN_STEPS).floor() / TRAIN_STEPS) as f32;
            let of = |m: usize| {
                let drawn = normal(&[images as i64], derive(seed, "level", m as u64), Device::Cpu);
                Vec::<f32>::try_from(drawn).unwrap_or_default().into_iter().map(sigma).collect()
            };
            (0..times).map(of).collect()
        }
        Levels::Rollout => {
            let mut choices = Choices::new(derive(seed, "times", 0));
            let orders: Vec<Vec<usize>> = (0..images).map(|_| choices.permutation(schedule.trained())).collect();
            let of = |m: usize| orders.iter().map(|o| schedule.sigma(o[m % o.len()]) as f32).collect();
            (0..times).map(of).collect()
        }
    }
}

impl Sft<'_> {
    /// Noise levels of an image and round.
    fn times(&self) -> usize {
        self.config.timesteps.unwrap_or(self.distillation.schedule().trained()).max(1)
    }

    /// What a teacher shows in a round: the task's prompts, clean latents, `[B, C, H, W]`, and the noise level of each at each time.
    fn shown(&self, index: usize, round: u64) -> Result<(Batch, Tensor, Vec<Vec<f32>>)> {
        let (config, distillation) = (&self.config, &self.distillation);
        let (batch, schedule) = (distillation.batch(index, round)?, distillation.schedule());
        let shown = distillation.rollout(&distillation.teacher(index), &batch, &Solver::default(), Keep::Last)?;
        let (images, times) = (batch.len() as usize, self.times());
        let levels = levels(config.noise_levels, batch.seed, images, times, &schedule, &|u| {
            distillation.model.architecture().training_sigma(u)
        });
        Ok((batch, shown.last().shallow_clone(), levels))
    }

    fn learn(&self, round: u64) -> Result<Vec<f64>> {
        let (distillation, times) = (&self.distillation, self.times());
        let shown =
            (0..distillation.teachers.len()).map(|index| self.shown(index, round)).collect::<Result<Vec<_>>>()?;
        let images: Vec<i64> = shown.iter().map(|(batch, ..)| batch.len()).collect();
        let student = if self.config.guided { distillation.student() } else { distillation.plain(distillation.lora) };
        let told = distillation.learn(&distillation.lora.parameters(), &images, times, |piece| {
            let (batch, x0, levels) = &shown[piece.task];
            let scale = 1.0 / (batch.len() as usize * times) as f64;
            let t = send(&Tensor::from_slice(&levels[piece.step]), distillation.canvas.device);
            let (x0, t, noise) = (piece.of(x0), piece.of(&t), piece.of(&batch.noise("diffuse", piece.step)));
            let level = t.view([-1, 1, 1, 1]);
            let xt = (1.0 - &level) * &x0 + &level * &noise;
            let condition = batch.condition.narrow(piece.at, piece.count);
            let trained = student.seen(&xt, &t, &condition, distillation.canvas.gradient_checkpointing);
            let loss = per_sample(&(&trained.velocity - (noise - x0)).square()).sum(Kind::Float) * scale;
            trained.backward(&(&loss * (1.0 / distillation.teachers.len() as f64)));
            Ok(vec![loss])
        })?;
        Ok(told.into_iter().filter_map(|sums| sums.first().copied()).collect())
    }
}

impl Objective for Sft<'_> {
    fn gradients(&self) -> u64 {
        self.distillation.images() * self.times() as u64
    }

    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        Ok(self.distillation.report(self.learn(round)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_spec::schedule::shifted;

    /// diffusers' table at shift 3: `sigma = 3 u / (1 + 2 u)` with `u` from 1 down in steps of 1/1000, read at
    /// `floor(1000 / (1 + exp(-z)))`. Half of all places are below the middle, whose level is 3/4; the quartiles of a normal
    /// are 0.6745 away, at places 337 and 662.
    #[test]
    fn logit_normal_levels_are_those_of_the_training_table() {
        let schedule = Schedule::new(10, 3.0);
        let drawn = levels(Levels::LogitNormal, 7, 4000, 1, &schedule, &|u| shifted(u, 3.0)).remove(0);
        let share = |below: f64| drawn.iter().filter(|t| f64::from(**t) < below).count() as f64 / 4000.0;
        for (level, wanted) in [(shifted(1.0 - 0.6625, 3.0), 0.25), (0.75, 0.5), (shifted(1.0 - 0.3375, 3.0), 0.75)] {
            assert!((share(level) - wanted).abs() < 0.03, "{level}: {}", share(level));
        }
        assert!(drawn.iter().all(|t| *t > 0.0 && *t <= 1.0));
        let on_grid = |t: &f32| {
            let u = f64::from(*t) / (3.0 - 2.0 * f64::from(*t)) * 1000.0;
            (u - u.round()).abs() < 0.02
        };
        assert!(drawn.iter().all(on_grid), "levels of the table alone");
    }
}
