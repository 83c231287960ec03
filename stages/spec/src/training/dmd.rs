//! Parameters of distribution matching.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose distribution is matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Along {
    /// That of the clean image estimated at a visited state, at any noise level (DMD with simulated states).
    #[default]
    #[schemars(extend("x-formerly" = ["pictures"]))]
    Images,
    /// That of the next state, at noise levels between it and the state before (TDM).
    Path,
}

/// Settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DmdConfig {
    /// Whose distribution is matched.
    pub along: Along,
    /// Optimizer steps of the second network, which learns the student's own distribution, for each of the student's, each on
    /// images of its own; if absent 5 for `images` (DMD2; 10 for Stable Diffusion 1.5), 1 for `path` (TDM).
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fake_updates: Option<u64>,
    /// Learning rate of the second network, as a multiple of the student's; if absent 1 for `images` (DMD2), 5 for `path` (TDM).
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fake_lr: Option<f64>,
}

impl DmdConfig {
    /// Optimizer steps of the second network in a round, at least 1.
    #[must_use]
    pub fn fake_updates(&self) -> u64 {
        let published = if self.along == Along::Images { 5 } else { 1 };
        self.fake_updates.unwrap_or(published).max(1)
    }

    /// How many times the student's learning rate that of the second network is.
    #[must_use]
    pub fn fake_lr(&self) -> f64 {
        self.fake_lr.unwrap_or(if self.along == Along::Images { 1.0 } else { 5.0 })
    }
}
