//! Parameters of the GRPO family.

use super::is_default;
use crate::Solver;
use crate::advantage::Spread;
use crate::window::Window;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What it reports of each update beside what is seen of the images ([`crate::teacher::metrics`]).
pub const METRICS: [&str; 2] = ["loss", "clipped"];

/// The largest log-ratio of a round's first update, and of a later one.
pub const LOG_RATIO: [&str; 2] = ["log_ratio_first", "log_ratio_later"];

/// Which ratio is clipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ratio {
    /// `exp(lp - lp_old)` (Flow-GRPO).
    Plain,
    /// `exp(std (lp - lp_old + b))`, and the loss divided by the step's length (GRPO-Guard).
    Guard,
}

impl Ratio {
    /// The published clip range: Flow-GRPO's 1e-4, GRPO-Guard's 2e-6. Log-densities are means over dimensions, hence
    /// the small numbers.
    #[must_use]
    pub const fn clip(self) -> f64 {
        match self {
            Self::Plain => 1e-4,
            Self::Guard => 2e-6,
        }
    }
}

/// How the divergence to the base is weighed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlForm {
    /// The KL divergence of the step, `|mu - mu_ref|^2 / (2 std^2)` (paper).
    #[default]
    Paper,
    /// The same times the step's length: the released code leaves it out of the variance.
    Code,
}

/// Settings of a method of the family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoConfig {
    /// The SDE of the rollouts. It must add noise.
    pub solver: Solver,
    /// Largest distance of the ratio from 1; the method's own if absent, 1e-4 for `flow_grpo`, 2e-6 for `grpo_guard`.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    #[schemars(extend("x-formerly" = ["clip"]))]
    pub clip_range: Option<f64>,
    /// Weight of the divergence to the base, mean over dimensions.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub kl: f64,
    /// How that divergence is weighed.
    #[serde(skip_serializing_if = "is_default")]
    pub kl_form: KlForm,
    /// Whose standard deviation the advantages are divided by.
    #[schemars(extend("x-formerly" = ["spread"]))]
    pub advantage_std: Spread,
    /// Optimizer steps per round. Prompts are split evenly among them; from the second on, data are off-policy.
    #[schemars(range(min = 1, max = 10_000))]
    pub updates: usize,
    /// Steps per image that are trained, drawn anew each round (DanceGRPO); all if absent.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(extend("x-formerly" = ["times"]))]
    pub timesteps: Option<usize>,
    /// Steps that are noisy and trained; all but the last of the schedule if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-formerly" = ["window"]))]
    pub sde_window: Option<Window>,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        Self {
            solver: Solver::Flow { noise_level: 0.7 },
            clip_range: None,
            kl: 0.0,
            kl_form: KlForm::Paper,
            advantage_std: Spread::Group,
            updates: 2,
            timesteps: None,
            sde_window: None,
        }
    }
}
