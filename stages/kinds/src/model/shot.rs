//! How pictures are made of prompts.

use opdflow_spec::Solver;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How pictures are made of prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shot {
    /// Denoising steps.
    #[schemars(range(min = 1, max = 1000))]
    pub steps: usize,
    /// Guidance scale; 1 is none.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub guidance: f64,
    /// Solver.
    pub solver: Solver,
    /// Seed of the starting noise. Picture `i` starts from noise that depends on this seed and `i` alone.
    #[schemars(range(min = 0, max = u64::MAX))]
    pub seed: u64,
}

impl Default for Shot {
    /// The evaluation of the papers: 40 Euler steps.
    fn default() -> Self {
        Self { steps: 40, guidance: 1.0, solver: Solver::default(), seed: 0 }
    }
}
