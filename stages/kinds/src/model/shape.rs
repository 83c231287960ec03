//! Rank, scale and place of an adapter.

use opdflow_spec::lora::LoraConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rank, scale and place of the adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// Inner dimension.
    #[schemars(range(min = 1, max = 16_384))]
    pub rank: i64,
    /// The adapter's output is multiplied by `alpha / rank`.
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Module names, matched by their last components as in peft.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    #[schemars(extend("x-formerly" = ["targets"]))]
    pub target_modules: Vec<String>,
}

impl Default for Shape {
    /// The papers': rank 32, alpha 64, the eight projections of the joint attention.
    fn default() -> Self {
        let LoraConfig { rank, alpha, target_modules } = LoraConfig::joint_attention(32, 64.0);
        Self { rank, alpha, target_modules }
    }
}
