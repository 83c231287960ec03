//! How images are sampled.

use opdflow_spec::Solver;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How images are sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSampling {
    /// Denoising steps.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(extend("x-formerly" = ["steps"]))]
    pub num_inference_steps: usize,
    /// Guidance scale; 1 is none.
    #[schemars(range(min = 0.0, max = 100.0))]
    #[schemars(extend("x-formerly" = ["guidance"]))]
    pub guidance_scale: f64,
    /// Solver.
    pub solver: Solver,
    /// Seed of the starting noise. Image `i` starts from noise that depends on this seed and `i` alone.
    #[schemars(range(min = 0, max = u64::MAX))]
    pub seed: u64,
}

impl Default for ImageSampling {
    /// The evaluation of the papers: 40 Euler steps.
    fn default() -> Self {
        Self { num_inference_steps: 40, guidance_scale: 1.0, solver: Solver::default(), seed: 0 }
    }
}
