//! Distribution matching: the student's images are pushed along the difference of two scores, the teacher's and that
//! of a second network which learns the student's own distribution (DMD; along the path, TDM).

pub use opdflow_spec::dmd::*;

use crate::distillation::{Batch, Distillation, Piece};
use crate::leaves::summed;
use crate::objective::{Objective, Report};
use crate::teacher::per_sample;
use anyhow::Result;
use opdflow_models::Solver;
use opdflow_models::lora::Lora;
use opdflow_models::rng::{Choices, derive};
use opdflow_models::rollout::Keep;
use opdflow_models::transfer::send;
use tch::{Kind, Tensor};

/// A student in training, together with the network that knows its distribution.
pub struct Dmd<'a> {
    /// Settings of the method.
    pub config: DmdConfig,
    /// Student and teachers.
    pub distillation: Distillation<'a>,
    /// The adapter of the student's own score. The optimizer moves it beside the student's.
    pub fake: &'a Lora,
}

/// A state at level `t` reached from `x` at level `s < t` by adding noise: `x_t = a x + b e`, with the coefficients that
/// keep the path's marginals: `a = (1 - t) / (1 - s)`, `b^2 = t^2 - a^2 s^2`. Levels are `[B]`, in `[0, 1)`.
pub fn noised(x: &Tensor, s: &Tensor, t: &Tensor, noise: &Tensor) -> Noised {
    let (s, t) = (s.view([-1, 1, 1, 1]), t.view([-1, 1, 1, 1]));
    let kept = (1.0 - &t) / (1.0 - &s);
    let added = (t.square() - (&kept * &s).square()).clamp_min(1e-8).sqrt();
    Noised { state: &kept * x + &added * noise, kept, added }
}

/// What [`noised`] gives.
pub struct Noised {
    /// `x_t`, `[B, C, H, W]`.
    pub state: Tensor,
    kept: Tensor,
    added: Tensor,
}

impl Noised {
    /// The velocity whose score is that of `x_t` given `x`: what a network of the distribution of `x_t` learns. With
    /// `score = -(x_t - a x) / b^2` the clean estimate is `(x_t + t^2 score) / (1 - t)`, and `v = (x_t - clean) / t`.
    pub fn velocity(&self, x: &Tensor, t: &Tensor) -> Tensor {
        let t = t.view([-1, 1, 1, 1]);
        let score = -(&self.state - &self.kept * x) / self.added.square();
        let clean = (&self.state + t.square() * score) / (1.0 - &t);
        (&self.state - clean) / t
    }
}

/// What a round's images of one task are trained at, a row each.
struct Places {
    batch: Batch,
    /// States of the student's rollout, `[B, C, H, W]`.
    x: Tensor,
    /// Their levels, those that the student's step leads to, and those of the noise added to what it makes; `[B]` each.
    levels: [Tensor; 3],
    /// The noise that is added.
    noise: Tensor,
}

impl Dmd<'_> {
    fn places(&self, index: usize, round: u64) -> Result<Places> {
        let (config, distillation) = (&self.config, &self.distillation);
        let (batch, schedule) = (distillation.batch(index, round)?, distillation.schedule());
        let seen = distillation.rollout(&distillation.student(), &batch, &Solver::default(), Keep::All)?;
        let mut choices = Choices::new(derive(batch.seed, "place", 0));
        let trained = schedule.trained();
        let (mut rows, mut levels) = (Vec::new(), [(); 3].map(|()| Vec::new()));
        for i in 0..batch.len() {
            let j = choices.below(trained);
            let (now, next) = (schedule.sigma(j), schedule.sigma(j + 1));
            // Never 1: nothing of an image is left there.
            let (low, high) = match config.along {
                Along::Images => (0.02, 0.98),
                Along::Path => (next + 0.02 * (now - next), next + 0.98 * (now - next)),
            };
            rows.push(seen.states[j].narrow(0, i, 1));
            let from = if config.along == Along::Images { 0.0 } else { next };
            for (list, value) in levels.iter_mut().zip([now, from, low + (high - low) * choices.unit()]) {
                list.push(value as f32);
            }
        }
        let levels = levels.map(|l| send(&Tensor::from_slice(&l), distillation.canvas.device));
        let noise = batch.noise("diffuse", 0);
        Ok(Places { batch, x: Tensor::cat(&rows, 0), levels, noise })
    }

    /// The gradients of both networks; by task the size of the push and what the second network missed.
    fn learn(&self, round: u64) -> Result<Vec<Vec<f64>>> {
        let distillation = &self.distillation;
        let all =
            (0..distillation.teachers.len()).map(|index| self.places(index, round)).collect::<Result<Vec<_>>>()?;
        let images: Vec<i64> = all.iter().map(|places| places.batch.len()).collect();
        let params: Vec<Tensor> = [distillation.lora, self.fake].iter().flat_map(|lora| lora.parameters()).collect();
        distillation.learn(&params, &images, 1, |piece| self.learn_from(&all[piece.task], piece))
    }

    fn learn_from(&self, places: &Places, piece: &Piece) -> Result<Vec<Tensor>> {
        let distillation = &self.distillation;
        let (scale, share) = (1.0 / places.batch.len() as f64, 1.0 / distillation.teachers.len() as f64);
        let [now, from, to] = [0, 1, 2].map(|i| piece.of(&places.levels[i]));
        let (x, noise) = (piece.of(&places.x), piece.of(&places.noise));
        let condition = places.batch.condition.narrow(piece.at, piece.count);
        let gradient_checkpointing = distillation.canvas.gradient_checkpointing;
        let student = distillation.student();
        let trained = student.seen(&x, &now, &condition, gradient_checkpointing);
        let made = &x + (&from - &now).view([-1, 1, 1, 1]) * &trained.velocity;
        let fixed = made.detach();
        let seen = noised(&fixed, &from, &to, &noise);
        let level = to.view([-1, 1, 1, 1]);
        let second = distillation.plain(self.fake).seen(&seen.state, &to, &condition, gradient_checkpointing);
        let fake = &second.velocity;
        let direction = {
            let _off = tch::no_grad_guard();
            let goal = distillation.teacher(piece.task).velocity(&seen.state, &to, &condition);
            // Difference of the clean estimates, x_t - t v each, relative to what the teacher would change.
            let direction = (goal.shallow_clone() - fake.detach()) * &level;
            let change = &fixed - (&seen.state - &goal * &level);
            direction / per_sample(&change.abs()).clamp_min(1e-3).view([-1, 1, 1, 1])
        };
        // Its gradient in `made` is `direction`.
        let pull = per_sample(&(made * &direction)).sum(Kind::Float) * scale;
        let learnt = per_sample(&(fake - seen.velocity(&fixed, &to)).square()).sum(Kind::Float) * scale;
        // The two share no parameter and no path.
        trained.backward(&(pull * share));
        second.backward(&(&learnt * share));
        Ok(vec![summed(&per_sample(&direction.square()), scale), learnt])
    }
}

impl Objective for Dmd<'_> {
    /// The student's; the second network takes as many again.
    fn gradients(&self) -> u64 {
        self.distillation.images()
    }

    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        let told = self.learn(round)?;
        let column = |at: usize| told.iter().map(move |sums| sums.get(at).copied().unwrap_or(0.0));
        let mut report = self.distillation.report(column(0));
        report.push(("fake_loss".to_owned(), column(1).sum::<f64>() / self.distillation.teachers.len() as f64));
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_models::rng::normal;
    use tch::Device;

    #[test]
    fn noise_from_nothing_is_the_plain_path() {
        let (x, e) = (normal(&[2, 1, 2, 2], 1, Device::Cpu), normal(&[2, 1, 2, 2], 2, Device::Cpu));
        let (s, t) = (Tensor::from_slice(&[0.0_f32, 0.0]), Tensor::from_slice(&[0.3_f32, 0.9]));
        let seen = noised(&x, &s, &t, &e);
        let level = t.view([-1, 1, 1, 1]);
        let plain: Tensor = (1.0 - &level) * &x + &level * &e;
        assert!((&seen.state - plain).abs().max().double_value(&[]) < 1e-6);
        // And its velocity is the path's own.
        assert!((seen.velocity(&x, &t) - (e - x)).abs().max().double_value(&[]) < 1e-4);
    }

    #[test]
    fn noise_in_two_parts_is_noise_at_once() {
        // Variance of the noise in x_t when x_s carries s: a^2 s^2 + b^2 = t^2.
        let (s, t) = (Tensor::from_slice(&[0.4_f32]), Tensor::from_slice(&[0.7_f32]));
        let one = Tensor::ones([1, 1, 1, 1], (Kind::Float, Device::Cpu));
        let seen = noised(&one, &s, &t, &one);
        let (a, b) = (seen.kept.double_value(&[0, 0, 0, 0]), seen.added.double_value(&[0, 0, 0, 0]));
        assert!((a * a * 0.16 + b * b - 0.49).abs() < 1e-6 && (a - 0.5).abs() < 1e-6);
    }
}
