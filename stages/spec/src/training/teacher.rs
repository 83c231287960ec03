//! How experience is gathered in the reinforcement learning of a teacher, and what is reported of it.

use crate::advantage::Blend;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How images are sampled to learn from. Batch sizes are those of the whole round, whatever the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Prompts in a round.
    #[schemars(range(min = 1, max = 100_000))]
    pub prompts: usize,
    /// Images of each prompt, whose rewards are compared with each other.
    #[schemars(range(min = 2, max = 10_000))]
    #[schemars(extend("x-formerly" = ["group"]))]
    pub group_size: usize,
    /// Denoising steps.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(extend("x-formerly" = ["steps"]))]
    pub num_inference_steps: usize,
    /// Guidance scale, in rollout and training alike; 1 is none.
    #[schemars(range(min = 0.0, max = 100.0))]
    #[schemars(extend("x-formerly" = ["guidance"]))]
    pub guidance_scale: f64,
    /// Whether the images of a prompt begin from the same noise (Flow-GRPO's `same_latent`, DanceGRPO's `init_same_noise`), so that only the
    /// noise of their steps tells them apart.
    #[serde(skip_serializing_if = "is_false")]
    pub same_noise: bool,
    /// How several rewards become one advantage.
    #[serde(skip_serializing_if = "Blend::is_rewards")]
    pub blend: Blend,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(said: &bool) -> bool {
    !said
}

impl Default for Sampling {
    /// Flow-GRPO's round: 48 prompts, 24 images each, ten steps.
    fn default() -> Self {
        Self {
            prompts: 48,
            group_size: 24,
            num_inference_steps: 10,
            guidance_scale: 1.0,
            same_noise: false,
            blend: Blend::Rewards,
        }
    }
}

/// What is reported of each round's images.
pub const METRICS: [&str; 4] = ["reward", "reward_std", "flat_groups", "latent_std"];

/// The metric of one of several rewards.
#[must_use]
pub fn by_reward(name: &str) -> String {
    format!("reward.{name}")
}

/// The metric of one of several tasks, in its own rounds.
#[must_use]
pub fn by_task(name: &str) -> String {
    format!("reward_{name}")
}

/// The names of all that is reported of a training's images: its tasks, in the order of their turns, each with the
/// names of its rewards.
#[must_use]
pub fn metrics(tasks: &[(&str, Vec<&str>)]) -> Vec<String> {
    let mut found: Vec<String> = METRICS.map(str::to_owned).into();
    for (task, rewards) in tasks {
        if rewards.len() > 1 {
            found.extend(rewards.iter().map(|r| by_reward(r)));
        }
        if tasks.len() > 1 {
            found.push(by_task(task));
        }
    }
    found
}
