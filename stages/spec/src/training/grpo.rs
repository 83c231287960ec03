//! Parameters of the GRPO family.

use crate::Solver;
use crate::advantage::Spread;
use crate::window::Window;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What it reports beside what is seen of the images ([`crate::teacher::metrics`]): the loss of each update and, once a round, the share
/// of the ratios that were outside the clip range, 0 to 1. The round's first update is on-policy, its ratios are 1 and not counted: of a
/// single update the share is 0.
pub const METRICS: [&str; 2] = ["loss", "clipped"];

/// Where the distance from the base has a weight, it is reported too: the mean divergence of the update's steps in the form that is weighed.
pub const KL: &str = "kl";

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

    /// The published weight of the divergence to the base: Flow-GRPO's 0.04 (GenEval and OCR; 0.01 for PickScore), none in
    /// GRPO-Guard.
    #[must_use]
    pub const fn kl(self) -> f64 {
        match self {
            Self::Plain => 0.04,
            Self::Guard => 0.0,
        }
    }

    /// Whose standard deviation the published configurations divide by.
    #[must_use]
    pub const fn advantage_std(self) -> Spread {
        match self {
            Self::Plain => Spread::Round,
            Self::Guard => Spread::Group,
        }
    }
}

/// By which variance a distance of two means is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlForm {
    /// The step's, `|mu - mu'|^2 / (2 std^2)`: the KL divergence, as in the papers.
    #[default]
    Paper,
    /// The same per unit of time, so that the divergence is multiplied by the step's length, as in the released code of
    /// Flow-GRPO and DiffusionOPD.
    Code,
}

impl KlForm {
    /// Factor on the divergence of a step of this length.
    #[must_use]
    pub const fn factor(self, length: f64) -> f64 {
        match self {
            Self::Paper => 1.0,
            Self::Code => length,
        }
    }
}

/// What the ratio is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Density {
    /// The normal density of the step.
    Gaussian,
    /// `-(x' - mu)^2` without a variance, as Flow-GRPO's code has it for coefficients-preserving sampling: its published
    /// clip ranges go with it.
    Distance,
}

/// What is shared out among the updates of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The round's images in an order that is drawn anew each round (Flow-GRPO, DiffusionNFT).
    #[default]
    Images,
    /// Its prompts, each with its whole group.
    Prompts,
}

/// What becomes of images whose advantage is 0, as all of a group with equal rewards have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZeroAdvantage {
    /// They are left out, and the loss is the mean over the others (Flow-GRPO). Its code puts a few back at random, so that the
    /// rest divides by its number of batches; here nothing hangs on batches.
    #[default]
    Drop,
    /// They count in the mean.
    Keep,
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
    /// What the ratio is made of; the solver's published form if absent, `distance` for `cps` and `gaussian` for the others.
    /// `grpo_guard` has `gaussian` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub density: Option<Density>,
    /// Weight of the divergence to the base, mean over dimensions; the method's own if absent, 0.04 for `flow_grpo`, 0 for
    /// `grpo_guard`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub kl: Option<f64>,
    /// By which variance that divergence is divided.
    pub kl_form: KlForm,
    /// Whose standard deviation the advantages are divided by; the method's own if absent, that of the round for `flow_grpo`,
    /// of the group for `grpo_guard`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-formerly" = ["spread"]))]
    pub advantage_std: Option<Spread>,
    /// What becomes of images whose advantage is 0.
    pub zero_advantage: ZeroAdvantage,
    /// Optimizer steps per round, each on an equal share of it; from the second on, data are off-policy.
    #[schemars(range(min = 1, max = 10_000))]
    pub updates: usize,
    /// What is shared out among them.
    pub split: Split,
    /// Steps per image that are trained, drawn anew for each image and round (DanceGRPO); all if absent.
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
            density: None,
            kl: None,
            kl_form: KlForm::Code,
            advantage_std: None,
            zero_advantage: ZeroAdvantage::Drop,
            updates: 2,
            split: Split::Images,
            timesteps: None,
            sde_window: None,
        }
    }
}

impl GrpoConfig {
    /// What the ratio is made of.
    #[must_use]
    pub fn density(&self, ratio: Ratio) -> Density {
        match (self.density, ratio, self.solver) {
            (Some(density), _, _) => density,
            (None, Ratio::Plain, Solver::Cps { .. }) => Density::Distance,
            _ => Density::Gaussian,
        }
    }
}
