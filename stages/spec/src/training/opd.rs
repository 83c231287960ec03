//! Parameters of DiffusionOPD's closed form.

use super::is_default;
use crate::grpo::KlForm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is matched at each visited state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// The means of the step: the closed-form KL of an SDE (paper eq. 10), half the squared distance of an ODE (eq. 12).
    #[default]
    Mean,
    /// The velocities, half the squared distance: every step has the same weight.
    Velocity,
    /// The estimates of the clean image, half the squared distance: noisy steps count more.
    Clean,
}

/// How the losses of the tasks are weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Equally.
    #[default]
    Equal,
    /// By the share of its first loss that a task still has: one that lags gets a larger weight, at most five times the
    /// equal one.
    Remaining,
}

/// Settings of the distillation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OpdConfig {
    /// What of student and teacher is compared.
    pub matching: Match,
    /// By which variance the distance of two means is divided where the rollout adds noise. The paper's noise ablation was made with
    /// `code`.
    #[serde(skip_serializing_if = "is_default")]
    pub kl_form: KlForm,
    /// Whether each image's loss is divided by its own mean absolute distance, held fixed.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("x-formerly" = ["normalise"]))]
    pub normalize: bool,
    /// Factor on the loss of each trained step; all 1 if empty, and 1 for steps beyond its end.
    #[schemars(length(max = 1000), inner(range(min = 0.0, max = 1e6)))]
    #[serde(skip_serializing_if = "is_default")]
    pub step_weights: Vec<f64>,
    /// How the losses of the tasks are weighted.
    #[serde(skip_serializing_if = "is_default")]
    pub balance: Balance,
    /// Weight of the same divergence from the base (Flow-OPD's anchor, to the base).
    #[schemars(range(min = 0.0, max = 1e6))]
    #[serde(skip_serializing_if = "is_default")]
    pub anchor: f64,
}
