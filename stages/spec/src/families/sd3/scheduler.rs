//! `scheduler/scheduler_config.json`.

use crate::config::supported;
use crate::schedule::TRAIN_STEPS;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// `scheduler/scheduler_config.json` of diffusers' `FlowMatchEulerDiscreteScheduler`, with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulerConfig {
    /// What sigma is multiplied by to give the timestep.
    pub num_train_timesteps: i64,
    /// The static shift of the schedule.
    pub shift: f64,
    /// Shift by the number of tokens; not supported.
    pub use_dynamic_shifting: bool,
    /// Spacing; not supported.
    pub use_karras_sigmas: bool,
    /// Spacing; not supported.
    pub use_exponential_sigmas: bool,
    /// Spacing; not supported.
    pub use_beta_sigmas: bool,
    /// From clean to noisy; not supported.
    pub invert_sigmas: bool,
    /// Stretch to a last sigma; not supported.
    pub shift_terminal: Option<f64>,
    /// Noise in every step; not supported (the solvers here have their own).
    pub stochastic_sampling: bool,
}

impl Default for SchedulerConfig {
    fn default() -> SchedulerConfig {
        SchedulerConfig {
            num_train_timesteps: 1000,
            shift: 1.0,
            use_dynamic_shifting: false,
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            invert_sigmas: false,
            shift_terminal: None,
            stochastic_sampling: false,
        }
    }
}

impl SchedulerConfig {
    /// What all published models of Stable Diffusion 3 and 3.5 have.
    pub fn published() -> SchedulerConfig {
        SchedulerConfig { shift: 3.0, ..SchedulerConfig::default() }
    }

    /// Refuses what is not implemented.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "scheduler config";
        for (key, on) in [
            ("use_dynamic_shifting", self.use_dynamic_shifting),
            ("use_karras_sigmas", self.use_karras_sigmas),
            ("use_exponential_sigmas", self.use_exponential_sigmas),
            ("use_beta_sigmas", self.use_beta_sigmas),
            ("invert_sigmas", self.invert_sigmas),
            ("stochastic_sampling", self.stochastic_sampling),
        ] {
            supported(WHAT, key, on, !on, "false")?;
        }
        supported(WHAT, "shift_terminal", "set", self.shift_terminal.is_none(), "null")?;
        supported(WHAT, "shift", self.shift, self.shift > 0.0 && self.shift.is_finite(), "above 0")?;
        let steps = self.num_train_timesteps;
        supported(WHAT, "num_train_timesteps", steps, steps as f64 == TRAIN_STEPS, "1000")
    }
}
