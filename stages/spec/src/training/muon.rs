//! Parameters of Muon.

use crate::optim::AdamWConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of Muon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MuonConfig {
    /// Learning rate of matrices: the size of the orthogonal step.
    #[schemars(range(max = 10.0), extend("exclusiveMinimum" = 0))]
    pub lr: f64,
    /// Decay of the running sum of gradients.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// Weight decay of matrices per step, times `lr`.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub weight_decay: f64,
    /// Largest norm of the whole gradient; a longer one enters the running sum of matrices scaled down to it. The
    /// size of a step does not depend on the gradient's, but one large gradient must not outweigh the sum.
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0))]
    #[schemars(extend("x-formerly" = ["clip"]))]
    pub max_grad_norm: f64,
    /// For vectors, norms and embeddings, with a `max_grad_norm` of their own.
    #[schemars(extend("x-formerly" = ["rest"]))]
    pub adamw: AdamWConfig,
}

impl Default for MuonConfig {
    fn default() -> Self {
        Self {
            lr: 0.02,
            momentum: 0.9,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            adamw: AdamWConfig { lr: 1e-3, weight_decay: 0.0, ..AdamWConfig::default() },
        }
    }
}
