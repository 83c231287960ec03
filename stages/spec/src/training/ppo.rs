//! Parameters of on-policy distillation as reinforcement learning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings. The walk's solver must add noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PpoConfig {
    /// Largest distance of the ratio from 1.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    #[schemars(extend("x-formerly" = ["clip"]))]
    pub clip_range: f64,
    /// Whether the advantage `-KL` is a constant. If so, on-policy the mean of the gradient is zero, because a step's
    /// KL does not depend on the noise that follows it; the paper's form keeps it differentiable.
    pub detach: bool,
    /// Optimizer steps on the same rollouts.
    #[schemars(range(min = 1, max = 10_000))]
    pub updates: usize,
    /// Weight of the divergence from the base (Flow-OPD's anchor, to the base).
    #[schemars(range(min = 0.0, max = 1e6))]
    pub anchor: f64,
}

impl Default for PpoConfig {
    fn default() -> Self {
        Self { clip_range: 1e-4, detach: false, updates: 1, anchor: 0.0 }
    }
}
