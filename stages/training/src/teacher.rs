//! Reinforcement learning of a teacher: what DiffusionNFT and the GRPO family share.

pub use opdflow_spec::teacher::*;

use crate::advantage::{self, Spread};
use crate::objective::{Report, named};
use crate::parts::Parts;
use crate::task::{RewardValues, Task, TaskSettings, prompts_of_round};
use anyhow::{Result, ensure};
use opdflow_models::condition::Condition;
use opdflow_models::field::{Field, Guidance};
use opdflow_models::finite::NotFinite;
use opdflow_models::lora::Lora;
use opdflow_models::network::Network;
use opdflow_models::rollout::{Keep, Rollout, RolloutOptions};
use opdflow_models::transfer::send;
use opdflow_models::{Schedule, Solver, rng};
use opdflow_ranks::{Ranks, least_common};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Where images come from and how their latents look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Canvas {
    /// Channels, height and width of a latent.
    pub shape: [i64; 3],
    /// Where it is computed.
    pub device: Device,
    /// Largest batch of one forward. It bounds memory and changes nothing else.
    pub micro: i64,
    /// Whether gradients compute the network's inside once more instead of keeping it. It saves memory and changes
    /// nothing else.
    pub gradient_checkpointing: bool,
    /// The processes that share the work.
    pub ranks: Ranks,
}

impl Canvas {
    /// Starting noise of a round, `[B, C, H, W]`.
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

/// The images of one round with their advantages.
pub struct Experience {
    /// One row per image.
    pub condition: Condition,
    /// How they came about.
    pub rollout: Rollout,
    /// Advantage of each image, `[B]` f32.
    pub advantage: Tensor,
    /// What to report.
    pub report: Report,
}

/// A base model with tasks, whose images are sampled and scored round by round.
pub struct RolloutCollector<'a> {
    /// The network.
    pub model: &'a dyn Network,
    /// The encoded empty prompt.
    pub empty: &'a Condition,
    /// Latents and device.
    pub canvas: Canvas,
    /// Settings of the rollouts.
    pub sampling: Sampling,
    /// Prompts and rewards. Round `k` trains on task `k mod n`: with several, they take turns.
    pub tasks: Vec<&'a mut dyn Task>,
    /// The seed.
    pub seed: u64,
}

impl RolloutCollector<'_> {
    /// The settings of the task of round `round`.
    #[must_use]
    pub fn settings(&self, round: u64) -> TaskSettings {
        let place = round % (self.tasks.len() as u64).max(1);
        self.tasks.get(place as usize).map_or_else(TaskSettings::default, |task| task.settings())
    }

    /// The velocity field with an adapter; `None` is the base.
    pub fn field<'b>(&'b self, lora: Option<&'b Lora>) -> Field<'b> {
        Field { model: self.model, lora, guidance: Guidance { scale: self.sampling.guidance_scale, empty: self.empty } }
    }

    /// The noise levels of the rollouts.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        self.model.architecture().schedule(self.sampling.num_inference_steps, self.canvas.shape)
    }

    /// Samples a round's images with the adapter and scores them.
    ///
    /// # Errors
    /// No task; a prompt or a reward that fails.
    pub fn collect(
        &mut self,
        lora: &Lora,
        solver: &Solver,
        window: Option<Range<usize>>,
        spread: Spread,
        keep: Keep,
        round: u64,
    ) -> Result<Experience> {
        let (group, count) = (self.sampling.group_size, self.tasks.len() as u64);
        ensure!(count > 0, "there is no task to train on");
        let place = (round % count) as usize;
        let task = &self.tasks[place];
        let chosen = prompts_of_round(task.prompts(), self.sampling.prompts, self.seed, round);
        let rows: Vec<i64> = (0..chosen.len() as i64).flat_map(|p| std::iter::repeat_n(p, group)).collect();
        let prompts: Vec<usize> = rows.iter().map(|&r| chosen[r as usize]).collect();
        let condition = task.condition(&chosen)?.rows(&rows);
        let seed = rng::derive(self.seed, "start", round);
        let start = if self.sampling.same_noise {
            let each = self.canvas.noise(chosen.len(), seed);
            each.index_select(0, &send(&Tensor::from_slice(&rows), each.device()))
        } else {
            self.canvas.noise(prompts.len(), seed)
        };
        let (schedule, stream) = (self.schedule(), rng::derive(self.seed, "rollout", round));
        let along = RolloutOptions {
            schedule: &schedule,
            solver,
            window,
            keep,
            micro: self.canvas.micro,
            // Each process samples parts of its own.
            ranks: Ranks::alone(),
        };
        let device = self.canvas.device;
        let draw = |j: usize| rng::normal(&start.size(), rng::derive(stream, "step", j as u64), device);
        let unit = least_common(self.canvas.micro.unsigned_abs() as usize, task.judged_together());
        let mut parts = Parts::new(&start, unit, self.canvas.ranks);
        let guidance = Guidance { scale: self.sampling.guidance_scale, empty: self.empty };
        let field = Field { model: self.model, lora: Some(lora), guidance };
        let scores = self.tasks[place]
            .score(&prompts, parts.own(), &mut |seen| parts.sample(&field, &condition, &along, &draw, seen))?;
        let rollout = parts.whole(&along, &draw)?;
        let rewards = RewardValues::sum(&scores);
        ensure!(rewards.iter().all(|r| r.is_finite()), NotFinite::new("a reward"));
        let advantages = advantage::blended(self.sampling.blend, &scores, group, spread);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let (spread, flat) = (advantage::std(&rewards), advantage::flat_groups(&rewards, group));
        // Images that all turn grey, or all alike, show in their latents first.
        let latents = rollout.last().std(false).double_value(&[]);
        let mut report = named(METRICS, [mean(&rewards), spread, flat, latents]);
        if scores.len() > 1 {
            report.extend(scores.iter().map(|m| (by_reward(&m.name), mean(&m.values))));
        }
        if count > 1 {
            report.push((by_task(self.tasks[place].name()), mean(&rewards)));
        }
        let advantage = send(&Tensor::from_slice(&advantages).to_kind(Kind::Float), self.canvas.device);
        Ok(Experience { condition, rollout, advantage, report })
    }
}

/// The first of rows that lie one after another, of which no copy need be made.
fn together(rows: &[i64]) -> Option<i64> {
    rows.first().copied().filter(|_| rows.windows(2).all(|pair| pair[1] == pair[0] + 1))
}

/// The rows `rows` of `[B, ...]`.
pub fn rows_of(t: &Tensor, rows: &[i64]) -> Tensor {
    match together(rows) {
        Some(first) => t.narrow(0, first, rows.len() as i64),
        None => t.index_select(0, &send(&Tensor::from_slice(rows), t.device())),
    }
}

/// The same of a condition.
pub fn condition_of(condition: &Condition, rows: &[i64]) -> Condition {
    match together(rows) {
        Some(first) => condition.narrow(first, rows.len() as i64),
        None => condition.rows(rows),
    }
}

/// The images of round `round` in the order in which its updates share them out: as they are for one, drawn anew for several.
pub fn order_of_round(total: usize, updates: usize, seed: u64, round: u64) -> Vec<i64> {
    let order = match updates {
        1 => (0..total).collect(),
        _ => rng::Choices::new(rng::derive(seed, "split", round)).permutation(total),
    };
    order.into_iter().map(|i| i as i64).collect()
}

/// The part of update `update` of `updates`, each an equal share.
pub fn share<T>(all: &[T], update: usize, updates: usize) -> &[T] {
    let end = |u: usize| u * all.len() / updates;
    &all[end(update)..end(update + 1)]
}

/// Mean over everything but the batch: `[B, ...]` to `[B]`.
pub fn per_sample(t: &Tensor) -> Tensor {
    t.flatten(1, -1).mean_dim(1, false, None::<Kind>)
}
