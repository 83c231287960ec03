//! Parameters of flow matching on the teachers' images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the noise levels of flow matching come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Levels {
    /// From the training table of 1,000 levels, at the place `1 / (1 + exp(-z))` with a normal `z` (Stable Diffusion 3's
    /// logit-normal; diffusers' `compute_density_for_timestep_sampling`).
    #[default]
    LogitNormal,
    /// From those of the student's sampling, every image in an order of its own.
    Rollout,
}

/// Settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Where they come from.
    pub noise_levels: Levels,
    /// Whether the velocity that is trained has the student's guidance. The published baseline trains the network's own.
    pub guided: bool,
    /// Noise levels per image and round; if absent as many as the closed form takes, so that a round has as many gradients.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(extend("x-formerly" = ["times"]))]
    pub timesteps: Option<usize>,
}
