//! Parameters of AdamW and of the running average of weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of AdamW (decoupled weight decay; PyTorch's `torch.optim.AdamW`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Learning rate.
    #[schemars(range(max = 10.0), extend("exclusiveMinimum" = 0))]
    pub lr: f64,
    /// Decay of the running mean of gradients.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// Decay of the running mean of squared gradients.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Weight decay per step, times `lr`.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub eps: f64,
    /// Largest norm of the whole gradient; a longer one is scaled down to it.
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0))]
    #[schemars(extend("x-formerly" = ["clip"]))]
    pub max_grad_norm: f64,
}

impl Default for AdamWConfig {
    /// The values of Flow-GRPO, DiffusionNFT and DiffusionOPD.
    fn default() -> Self {
        Self { lr: 3e-4, beta1: 0.9, beta2: 0.999, weight_decay: 1e-4, eps: 1e-8, max_grad_norm: 1.0 }
    }
}

/// Settings of the running average of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// Largest decay.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub decay: f64,
    /// Optimizer steps between updates. They fall on the steps `k` for which `k + 1` is a multiple of it.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub every: u64,
    /// How often each update takes in the same weights. The published code of Flow-GRPO and DiffusionOPD averages once per
    /// micro-batch: 4 times in GRPO-Guard on 16 GPUs, 3 times in DiffusionOPD.
    #[schemars(range(min = 1, max = 1000), extend("x-added" = 1))]
    pub repeat: u32,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: 0.9, every: 1, repeat: 1 }
    }
}
