//! Parameters of on-policy distillation as reinforcement learning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the dimensions of a latent come together in the divergence and in the log-ratio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// As sums: both are those of the joint normal distribution of all dimensions (DiffusionOPD, section 3.3). The product of the
    /// two is divided by the number of dimensions, so that its mean is the gradient of the closed form.
    #[default]
    Sum,
    /// As means (Flow-OPD's code): the part of the gradient that comes from the ratio is smaller by the number of dimensions,
    /// 1,024 on the miniature and 65,536 at 512 pixels.
    Mean,
}

impl Reduction {
    /// The clip range where none is given: PPO's usual one, or Flow-GRPO's for means.
    #[must_use]
    pub const fn clip(self) -> f64 {
        match self {
            Self::Sum => 0.2,
            Self::Mean => 1e-4,
        }
    }
}

/// Settings. The solver of the rollouts must add noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PpoConfig {
    /// How the dimensions of a latent come together.
    pub reduction: Reduction,
    /// Largest distance of the ratio from 1; if absent 0.2 for sums, 1e-4 for means.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    #[schemars(extend("x-formerly" = ["clip"]))]
    pub clip_range: Option<f64>,
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
        Self { reduction: Reduction::Sum, clip_range: None, detach: false, updates: 1, anchor: 0.0 }
    }
}
