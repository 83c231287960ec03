//! Reinforcement learning of a teacher: what DiffusionNFT and GRPO-Guard share.

use crate::advantage::{self, Spread};
use crate::field::Field;
use crate::objective::Report;
use crate::rollout::{Keep, Rollout, Way, rollout};
use crate::task::{Task, prompts_of_round};
use crate::text::embed::Embedded;
use crate::{Schedule, Solver, rng};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// How experience is gathered. Batch sizes are those of the whole round, whatever the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Prompts in a round.
    pub prompts: usize,
    /// Pictures of each prompt.
    pub group: usize,
    /// Denoising steps.
    pub steps: usize,
    /// Guidance scale, in rollout and training alike; 1 is none.
    pub guidance: f64,
}

impl Default for Sampling {
    /// Flow-GRPO's round: 48 prompts, 24 pictures each, ten steps.
    fn default() -> Self {
        Self { prompts: 48, group: 24, steps: 10, guidance: 1.0 }
    }
}

/// Where pictures come from and how their latents look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Canvas {
    /// Channels, height and width of a latent.
    pub shape: [i64; 3],
    /// The scheduler's static shift.
    pub shift: f64,
    /// Where it is computed.
    pub device: Device,
    /// Largest batch of one forward. It bounds memory and changes nothing else.
    pub micro: i64,
}

impl Canvas {
    /// Starting noise of a round, `[B, C, H, W]`.
    #[must_use]
    pub fn noise(&self, count: usize, seed: u64) -> Tensor {
        let [c, h, w] = self.shape;
        rng::normal(&[count as i64, c, h, w], seed, self.device)
    }

    /// `(start, length)` of the micro-batches of `total` rows.
    pub fn micros(&self, total: i64) -> impl Iterator<Item = (i64, i64)> {
        let step = self.micro.max(1);
        (0..total).step_by(step as usize).map(move |start| (start, step.min(total - start)))
    }
}

/// The pictures of one round with what was thought of them.
pub struct Experience {
    /// One row a picture.
    pub condition: Embedded,
    /// How they came about.
    pub rollout: Rollout,
    /// Advantage of each picture, `[B]` f32.
    pub advantage: Tensor,
    /// What to report.
    pub report: Report,
}

/// Samples a round's pictures with `field` and scores them.
///
/// # Errors
/// A prompt or a reward that fails.
pub fn explore(
    task: &mut dyn Task,
    field: &Field,
    canvas: &Canvas,
    sampling: &Sampling,
    solver: &Solver,
    spread: Spread,
    keep: Keep,
    seed: u64,
    round: u64,
) -> Result<Experience> {
    let chosen = prompts_of_round(task.prompts(), sampling.prompts, seed, round);
    let rows: Vec<i64> = (0..chosen.len() as i64).flat_map(|p| std::iter::repeat_n(p, sampling.group)).collect();
    let prompts: Vec<usize> = rows.iter().map(|&r| chosen[r as usize]).collect();
    let condition = task.condition(&chosen)?.rows(&rows);
    let schedule = Schedule::new(sampling.steps, canvas.shift);
    let start = canvas.noise(prompts.len(), rng::derive(seed, "start", round));
    let along = Way { schedule: &schedule, solver, keep, micro: canvas.micro };
    let stream = rng::derive(seed, "rollout", round);
    let mut draw = |j: usize| rng::normal(&start.size(), rng::derive(stream, "step", j as u64), canvas.device);
    let rollout = rollout(field, &condition, &start, &along, &mut draw);
    let rewards = task.score(rollout.last(), &prompts)?;
    let advantages = advantage::advantages(&rewards, sampling.group, spread);
    let report = vec![
        ("reward".to_owned(), rewards.iter().sum::<f64>() / rewards.len().max(1) as f64),
        ("reward_std".to_owned(), advantage::std(&rewards)),
        ("flat_groups".to_owned(), advantage::flat_groups(&rewards, sampling.group)),
    ];
    let advantage = Tensor::from_slice(&advantages).to_kind(Kind::Float).to_device(canvas.device);
    Ok(Experience { condition, rollout, advantage, report })
}

/// Mean over everything but the batch: `[B, ...]` to `[B]`.
#[must_use]
pub fn per_sample(t: &Tensor) -> Tensor {
    t.flatten(1, -1).mean_dim(1, false, None::<Kind>)
}
