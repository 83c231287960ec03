//! How a student samples in a distillation.

use crate::Solver;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the student samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StudentSampling {
    /// Solver. Noise level 0 is the ODE.
    pub solver: Solver,
    /// Denoising steps.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(extend("x-formerly" = ["steps"]))]
    pub num_inference_steps: usize,
    /// Prompts of each task in a round; one image each.
    #[schemars(range(min = 1, max = 100_000))]
    pub prompts: usize,
    /// The student's guidance scale; 1 is none.
    #[schemars(range(min = 0.0, max = 100.0))]
    #[schemars(extend("x-formerly" = ["guidance"]))]
    pub guidance_scale: f64,
}

impl Default for StudentSampling {
    /// The paper's: ODE, ten steps, 24 images of each task, guidance 4.5.
    fn default() -> Self {
        Self { solver: Solver::default(), num_inference_steps: 10, prompts: 24, guidance_scale: 4.5 }
    }
}
