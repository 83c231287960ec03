//! Parameters of DiffusionNFT.

use crate::advantage::{CLIP, Spread};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What it reports of each round beside what is seen of the images ([`crate::teacher::metrics`]).
pub const METRICS: [&str; 2] = ["loss", "distance_to_base"];

/// How fast the sampling policy follows the trained one: `old <- d old + (1 - d) trained` after each round, where `k` optimizer
/// steps have been taken from the start on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// `d = 0`: always the newest policy. It collapses (paper, ablation).
    Newest {},
    /// `d = min(rate k, top)`; the paper's single-reward setting is `rate 0.001, top 0.5`.
    Linear {
        /// Growth of `d` per optimizer step.
        #[schemars(range(min = 0.0, max = 1.0))]
        rate: f64,
        /// Largest `d`.
        #[schemars(range(min = 0.0, max = 1.0))]
        top: f64,
    },
    /// `d = 0` for `k < from`, then `min(rate (k - from), top)`; the OCR setting is `from 75, rate 0.0075, top 0.999`.
    Delayed {
        /// Optimizer steps before it grows.
        #[schemars(range(min = 0, max = 10_000_000))]
        from: u64,
        /// Growth of `d` per optimizer step.
        #[schemars(range(min = 0.0, max = 1.0))]
        rate: f64,
        /// Largest `d`.
        #[schemars(range(min = 0.0, max = 1.0))]
        top: f64,
    },
}

impl Decay {
    /// `d` after `k` optimizer steps.
    #[must_use]
    pub fn at(&self, k: u64) -> f64 {
        match *self {
            Self::Newest {} => 0.0,
            Self::Linear { rate, top } => (rate * k as f64).min(top),
            Self::Delayed { from, rate, top } => (rate * k.saturating_sub(from) as f64).min(top),
        }
    }
}

/// What becomes of the advantages before they turn into optimalities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Unchanged.
    #[default]
    All,
    /// Negative ones become 0.
    Positive,
    /// Positive ones become 0.
    Negative,
    /// Positive ones become 1, the others 0.
    OneOnly,
    /// Their sign.
    Binary,
}

impl Mode {
    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// Settings of DiffusionNFT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NftConfig {
    /// Guidance strength of the two implicit policies is `1 / beta`.
    #[schemars(range(max = 100.0), extend("exclusiveMinimum" = 0))]
    pub beta: f64,
    /// How the sampling policy follows the trained one.
    pub decay: Decay,
    /// Weight of the squared distance to the base's velocity.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub kl: f64,
    /// Order of the deterministic solver that makes the data.
    #[schemars(range(min = 1, max = 2))]
    pub order: u8,
    /// Noise levels per image that are trained, drawn anew for each image from all of the schedule; all but one if absent.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(extend("x-formerly" = ["times"]))]
    pub timesteps: Option<usize>,
    /// Optimizer steps per round, each on an equal share of its images in an order that is drawn anew each round; published: 1, and
    /// 2 for OCR.
    #[schemars(range(min = 1, max = 10_000))]
    pub updates: usize,
    /// Whose standard deviation the advantages are divided by.
    #[schemars(extend("x-formerly" = ["spread"]))]
    pub advantage_std: Spread,
    /// How advantages are transformed.
    #[serde(skip_serializing_if = "Mode::is_all")]
    pub mode: Mode,
    /// Advantage at which the optimality reaches 0 or 1; also the scale of the loss.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub advantage_clip: f64,
}

impl Default for NftConfig {
    fn default() -> Self {
        Self {
            beta: 1.0,
            decay: Decay::Linear { rate: 0.001, top: 0.5 },
            kl: 1e-4,
            order: 2,
            timesteps: None,
            updates: 1,
            advantage_std: Spread::Round,
            mode: Mode::All,
            advantage_clip: CLIP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_tables() {
        let linear = Decay::Linear { rate: 0.001, top: 0.5 };
        let delayed = Decay::Delayed { from: 75, rate: 0.0075, top: 0.999 };
        for (k, l, d) in [(0, 0.0, 0.0), (75, 0.075, 0.0), (100, 0.1, 0.1875), (500, 0.5, 0.999)] {
            assert!((linear.at(k) - l).abs() < 1e-12 && (delayed.at(k) - d).abs() < 1e-12);
        }
    }
}
