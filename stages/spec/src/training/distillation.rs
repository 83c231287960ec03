//! How a student samples in a distillation.

use crate::Solver;
use crate::family::Architecture;
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
    /// The student's guidance scale; 1 is none, and the base's own family's if absent (4.5 for Stable Diffusion 3, as in the
    /// paper).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 100.0))]
    #[schemars(extend("x-formerly" = ["guidance"]))]
    pub guidance_scale: Option<f64>,
}

impl StudentSampling {
    /// The student's guidance scale with this base.
    #[must_use]
    pub fn guidance(&self, base: &dyn Architecture) -> f64 {
        self.guidance_scale.unwrap_or_else(|| base.guidance())
    }
}

impl Default for StudentSampling {
    /// The paper's: ODE, ten steps, 24 images of each task.
    fn default() -> Self {
        Self { solver: Solver::default(), num_inference_steps: 10, prompts: 24, guidance_scale: None }
    }
}
