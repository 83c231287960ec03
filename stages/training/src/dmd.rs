//! Distribution matching: the student's images are pushed along the difference of two scores, the teacher's and that
//! of a second network which learns the student's own distribution (DMD; along the path, TDM).

pub use opdflow_spec::dmd::*;

use crate::State;
use crate::distillation::{Batch, Distillation, Piece};
use crate::leaves::summed;
use crate::objective::{Objective, Report, named};
use crate::optim::{AdamW, AdamWConfig, Optimizer as _};
use crate::state::numbered;
use crate::teacher::per_sample;
use crate::train::LrSchedule;
use anyhow::Result;
use opdflow_models::Solver;
use opdflow_models::finite::{NotFinite, first_broken};
use opdflow_models::lora::Lora;
use opdflow_models::rng::{Choices, derive};
use opdflow_models::rollout::Keep;
use opdflow_models::transfer::send;
use tch::{Kind, Tensor};

/// Before the names of the second network's tensors in a training's state.
const FAKE: &str = "fake.";

/// A student in training, together with the network that knows its distribution.
pub struct Dmd<'a> {
    /// Settings of the method.
    pub config: DmdConfig,
    /// Student and teachers.
    pub distillation: Distillation<'a>,
    /// The network of the student's own score.
    pub fake: Fake<'a>,
}

/// A state at level `t` reached from `x` at level `s < t` by adding noise: `x_t = a x + b e`, with the coefficients that
/// keep the path's marginals: `a = (1 - t) / (1 - s)`, `b^2 = t^2 - a^2 s^2`. Levels are `[B]`, in `[0, 1)`.
pub fn noised(x: &Tensor, s: &Tensor, t: &Tensor, noise: &Tensor) -> Noised {
    let (s, t) = (s.view([-1, 1, 1, 1]), t.view([-1, 1, 1, 1]));
    let kept = (1.0 - &t) / (1.0 - &s);
    let added = (t.square() - (&kept * &s).square()).clamp_min(1e-8).sqrt();
    Noised { state: kept * x + &added * noise, added }
}

/// What [`noised`] gives.
pub struct Noised {
    /// `x_t`, `[B, C, H, W]`.
    pub state: Tensor,
    added: Tensor,
}

impl Noised {
    /// The noise that a velocity `v` at `x_t` says was added, `[B, C, H, W]`: `-b score`, with `score = ((1 - t) clean - x_t) / t^2` and
    /// `clean = x_t - t v`. Who learns to tell it has the score of the distribution of `x_t`, whatever `x` is (DMD2's loss of the
    /// second network, which it has for `s = 0`).
    pub fn told(&self, velocity: &Tensor, t: &Tensor) -> Tensor {
        let t = t.view([-1, 1, 1, 1]);
        let clean = &self.state - &t * velocity;
        (&self.state - (1.0 - &t) * clean) * &self.added / t.square()
    }
}

/// By how much an image should move, `[B, C, H, W]`: the difference of the clean estimates of both networks at a noised state `x_t`,
/// `x_t - t v` each, divided by the mean distance of the image from the teacher's (DMD2's `compute_distribution_matching_loss`, TDM's
/// `weighting_factor`). `clean`: the student's clean estimate; `level`: `t`, `[B]`; `goal` and `fake`: velocities at `x_t`.
pub fn direction(clean: &Tensor, state: &Tensor, level: &Tensor, goal: &Tensor, fake: &Tensor) -> Tensor {
    let level = level.view([-1, 1, 1, 1]);
    let apart = per_sample(&(clean - (state - goal * &level)).abs()).clamp_min(1e-3);
    (goal - fake) * level / apart.view([-1, 1, 1, 1])
}

/// The second network: it learns the student's own distribution.
pub struct Fake<'a> {
    lora: &'a Lora,
    optimizer: AdamW,
    lr_schedule: LrSchedule,
}

impl<'a> Fake<'a> {
    /// One that learns with the student's settings, but for `config`'s multiple of the learning rate.
    #[must_use]
    pub fn new(lora: &'a Lora, config: &DmdConfig, optimizer: &AdamWConfig, lr_schedule: LrSchedule) -> Self {
        let optimizer = AdamWConfig { lr: optimizer.lr * config.fake_lr(), ..optimizer.clone() };
        Self { lora, optimizer: AdamW::new(optimizer, lora.parameters()), lr_schedule }
    }

    /// Steps that it has taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// A step along the gradients that lie there; the norm of the whole before clipping.
    fn step(&mut self, round: u64) -> Result<f64> {
        let norm = self.optimizer.step(self.lr_schedule.factor(round));
        if !norm.is_finite() {
            return Err(NotFinite::new(format!("the gradient of the second network of round {round}")).into());
        }
        if first_broken(&self.lora.parameters()).is_some() {
            return Err(NotFinite::new(format!("a weight of the second network after a step of round {round}")).into());
        }
        Ok(norm)
    }
}

/// The student's rollout for one task.
struct Path {
    batch: Batch,
    /// The state at each level, `[B, C, H, W]`.
    states: Vec<Tensor>,
}

/// Where on its path each image is looked at, a row each.
struct Places {
    /// States of the student's rollout, `[B, C, H, W]`.
    x: Tensor,
    /// The state that noise is added to, made of the same prompts and noise.
    made: Tensor,
    /// Levels of `x`, of `made`, and those to which noise is added; `[B]` each.
    levels: [Tensor; 3],
    /// The noise that is added.
    noise: Tensor,
}

impl Dmd<'_> {
    fn paths(&self, draw: u64) -> Result<Vec<Path>> {
        let distillation = &self.distillation;
        let of = |index| {
            let batch = distillation.batch(index, draw)?;
            let seen = distillation.rollout(&distillation.student(), &batch, &Solver::default(), Keep::All)?;
            Ok(Path { batch, states: seen.states })
        };
        (0..distillation.teachers.len()).map(of).collect()
    }

    /// Draws a state of the path, a noise level and noise for each image. `purpose` keeps the draws of both networks apart.
    fn places(&self, path: &Path, purpose: &str) -> Places {
        let (config, schedule) = (&self.config, self.distillation.schedule());
        let mut choices = Choices::new(derive(path.batch.seed, purpose, 0));
        let trained = schedule.trained();
        let (mut x, mut made, mut levels) = (Vec::new(), Vec::new(), [(); 3].map(|()| Vec::new()));
        for i in 0..path.batch.len() {
            let j = choices.below(trained);
            let (now, next) = (schedule.sigma(j), schedule.sigma(j + 1));
            let row = |j: usize| path.states[j].narrow(0, i, 1);
            // Never 1: nothing of an image is left there.
            let (from, low, high) = match config.along {
                Along::Images => (0.0, 0.02, 0.98),
                Along::Path => (next, next + 0.02 * (now - next), next + 0.98 * (now - next)),
            };
            // The step was Euler's, so that the velocity is the states' difference.
            made.push(match config.along {
                Along::Images => row(j) - (row(j) - row(j + 1)) * (now / (now - next)),
                Along::Path => row(j + 1),
            });
            x.push(row(j));
            for (list, value) in levels.iter_mut().zip([now, from, low + (high - low) * choices.unit()]) {
                list.push(value as f32);
            }
        }
        let levels = levels.map(|l| send(&Tensor::from_slice(&l), self.distillation.canvas.device));
        Places { x: Tensor::cat(&x, 0), made: Tensor::cat(&made, 0), levels, noise: path.batch.noise(purpose, 0) }
    }

    /// Learns from all tasks with `give`; by task the sums of what it gives.
    fn over(
        &self,
        params: &[Tensor],
        paths: &[Path],
        purpose: &str,
        give: impl Fn(&Path, &Places, &Piece) -> Vec<Tensor>,
    ) -> Result<Vec<Vec<f64>>> {
        let places: Vec<Places> = paths.iter().map(|path| self.places(path, purpose)).collect();
        let images: Vec<i64> = paths.iter().map(|path| path.batch.len()).collect();
        let give = |piece: &Piece| Ok(give(&paths[piece.task], &places[piece.task], piece));
        self.distillation.learn(params, &images, 1, give)
    }

    /// The gradient of the second network, which learns the noise in the student's states.
    fn learn_fake(&self, path: &Path, places: &Places, piece: &Piece) -> Vec<Tensor> {
        let distillation = &self.distillation;
        let (scale, share) = (1.0 / path.batch.len() as f64, 1.0 / distillation.teachers.len() as f64);
        let [_, from, to] = [0, 1, 2].map(|i| piece.of(&places.levels[i]));
        let (noise, condition) = (piece.of(&places.noise), path.batch.condition.narrow(piece.at, piece.count));
        let seen = noised(&piece.of(&places.made), &from, &to, &noise);
        let field = distillation.plain(self.fake.lora);
        let trained = field.seen(&seen.state, &to, &condition, distillation.canvas.gradient_checkpointing);
        let missed = per_sample(&(seen.told(&trained.velocity, &to) - noise).square()).sum(Kind::Float) * scale;
        trained.backward(&(&missed * share));
        vec![missed]
    }

    /// The gradient of the student, on its clean estimate.
    fn learn_student(&self, path: &Path, places: &Places, piece: &Piece) -> Vec<Tensor> {
        let distillation = &self.distillation;
        let (scale, share) = (1.0 / path.batch.len() as f64, 1.0 / distillation.teachers.len() as f64);
        let [now, from, to] = [0, 1, 2].map(|i| piece.of(&places.levels[i]));
        let (x, condition) = (piece.of(&places.x), path.batch.condition.narrow(piece.at, piece.count));
        let trained = distillation.student().seen(&x, &now, &condition, distillation.canvas.gradient_checkpointing);
        let clean = &x - now.view([-1, 1, 1, 1]) * &trained.velocity;
        let push = {
            let _off = tch::no_grad_guard();
            let seen = noised(&piece.of(&places.made), &from, &to, &piece.of(&places.noise)).state;
            let goal = distillation.teacher(piece.task).velocity(&seen, &to, &condition);
            let fake = distillation.plain(self.fake.lora).velocity(&seen, &to, &condition);
            direction(&clean, &seen, &to, &goal, &fake)
        };
        // Its gradient in `clean` is `push`.
        trained.backward(&(per_sample(&(clean * &push)).sum(Kind::Float) * (scale * share)));
        vec![summed(&per_sample(&push.square()), scale)]
    }
}

impl Objective for Dmd<'_> {
    /// The student's; the second network takes `fake_updates` times as many beside them.
    fn gradients(&self) -> u64 {
        self.distillation.images()
    }

    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        let (updates, params) = (self.config.fake_updates(), self.fake.lora.parameters());
        let (mut paths, mut missed, mut norm) = (Vec::new(), Vec::new(), 0.0);
        for update in 0..updates {
            paths = self.paths(round * updates + update)?;
            self.fake.optimizer.zero_grad();
            missed = self.over(&params, &paths, "fake", |path, places, piece| self.learn_fake(path, places, piece))?;
            norm = self.fake.step(round)?;
        }
        // The student learns on the images of the second network's last step, at other states and levels.
        let params = self.distillation.lora.parameters();
        let pushed =
            self.over(&params, &paths, "place", |path, places, piece| self.learn_student(path, places, piece))?;
        let first = |told: Vec<Vec<f64>>| told.into_iter().filter_map(|sums| sums.first().copied());
        let mut report = self.distillation.report(first(pushed));
        let missed = first(missed).sum::<f64>() / self.distillation.teachers.len() as f64;
        report.extend(named(["fake_loss", "fake_grad_norm"], [missed, norm]));
        Ok(report)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let own = numbered("param", &self.fake.lora.parameters()).into_iter().chain(self.fake.optimizer.state());
        own.map(|(name, tensor)| (format!("{FAKE}{name}"), tensor)).collect()
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let state = state.below(FAKE);
        for (i, p) in self.fake.lora.parameters().iter_mut().enumerate() {
            state.copy_into(&format!("param.{i:04}"), p)?;
        }
        self.fake.optimizer.restore(&state)
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
        // And the path's own velocity tells the noise.
        assert!((seen.told(&(&e - x), &t) - e).abs().max().double_value(&[]) < 1e-5);
    }

    /// DMD2's `compute_distribution_matching_loss` on two numbers: an image (1, -1) at level 1/2, of which the teacher thinks that it
    /// was (0.5, -0.5) and the second network (2, 0). `p_real` = (0.5, -0.5), `p_fake` = (-1, -1), their difference over the mean of
    /// `|p_real|` is (1.5, 0.5) / 0.5.
    #[test]
    fn the_direction_by_hand() {
        let of = |a: f32, b: f32| Tensor::from_slice(&[a, b]).view([1, 1, 1, 2]);
        let (clean, state, level) = (of(1.0, -1.0), of(0.8, 0.2), Tensor::from_slice(&[0.5_f32]));
        let velocity = |seen: Tensor| (&state - seen) / 0.5;
        let moved = direction(&clean, &state, &level, &velocity(of(0.5, -0.5)), &velocity(of(2.0, 0.0)));
        assert!((moved - of(3.0, 1.0)).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn published_numbers_of_steps_and_rates() {
        let of = |along| DmdConfig { along, ..DmdConfig::default() };
        let numbers = |config: DmdConfig| (config.fake_updates(), config.fake_lr());
        assert_eq!(numbers(of(Along::Images)), (5, 1.0));
        assert_eq!(numbers(of(Along::Path)), (1, 5.0));
        let own = DmdConfig { fake_updates: Some(3), fake_lr: Some(2.0), ..DmdConfig::default() };
        assert_eq!(numbers(own), (3, 2.0));
    }

    #[test]
    fn noise_in_two_parts_is_noise_at_once() {
        // Variance of the noise in x_t when x_s carries s: a^2 s^2 + b^2 = t^2.
        let (s, t) = (Tensor::from_slice(&[0.4_f32]), Tensor::from_slice(&[0.7_f32]));
        let one = Tensor::ones([1, 1, 1, 1], (Kind::Float, Device::Cpu));
        let seen = noised(&one, &s, &t, &one);
        // With a = 0.3 / 0.6 = 1/2.
        let (x, b) = (seen.state.double_value(&[0, 0, 0, 0]), seen.added.double_value(&[0, 0, 0, 0]));
        assert!((0.25 * 0.16 + b * b - 0.49).abs() < 1e-6 && (x - 0.5 - b).abs() < 1e-6);
    }
}
