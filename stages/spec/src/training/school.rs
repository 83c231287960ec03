//! How a student samples in a distillation.

use crate::Solver;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the student walks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Walk {
    /// Solver. Noise level 0 is the ODE.
    pub solver: Solver,
    /// Denoising steps.
    #[schemars(range(min = 1, max = 1000))]
    pub steps: usize,
    /// Prompts of each task in a round; one picture each.
    #[schemars(range(min = 1, max = 100_000))]
    pub prompts: usize,
    /// The student's guidance scale; 1 is none.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub guidance: f64,
}

impl Default for Walk {
    /// The paper's: ODE, ten steps, 24 pictures of each task, guidance 4.5.
    fn default() -> Self {
        Self { solver: Solver::default(), steps: 10, prompts: 24, guidance: 4.5 }
    }
}
