//! Rank, scale and place of an adapter.

use opdflow_spec::family::Architecture;
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
    /// Module names, matched by their last components as in peft; those of the base's own family if absent (of the attentions,
    /// and for FLUX.1 of the feed-forward layers too).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), inner(length(min = 1)))]
    #[schemars(extend("x-formerly" = ["targets"]))]
    pub target_modules: Option<Vec<String>>,
}

impl Shape {
    /// The adapter of this shape for this base.
    #[must_use]
    pub fn config(&self, base: &dyn Architecture) -> LoraConfig {
        let target_modules = self.target_modules.clone().unwrap_or_else(|| base.targets());
        LoraConfig { rank: self.rank, alpha: self.alpha, target_modules }
    }
}

impl Default for Shape {
    /// The papers': rank 32, alpha 64.
    fn default() -> Self {
        Self { rank: 32, alpha: 64.0, target_modules: None }
    }
}
