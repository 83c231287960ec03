//! Parameters of DanceOPD.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DanceConfig {
    /// The place along the path, 0 noisy to 1 clean, is drawn from Beta(a, b) with these whole numbers.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub beta: [u32; 2],
}

impl Default for DanceConfig {
    /// The paper's Beta(5, 2); its walk has 16 steps.
    fn default() -> Self {
        Self { beta: [5, 2] }
    }
}
