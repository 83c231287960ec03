//! `scheduler/scheduler_config.json` of AuraFlow, and the noise levels that diffusers' `AuraFlowPipeline` asks its
//! `FlowMatchEulerDiscreteScheduler` for.

use crate::config::supported;
use crate::schedule::{Schedule, TRAIN_STEPS};
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// The configuration of `FlowMatchEulerDiscreteScheduler`, with its defaults. The published models shift by one number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuraSchedulerConfig {
    /// What sigma is multiplied by to give the timestep.
    pub num_train_timesteps: i64,
    /// The static shift.
    pub shift: f64,
    /// Shift by the number of tokens; the pipeline gives the scheduler no such number.
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

impl Default for AuraSchedulerConfig {
    fn default() -> AuraSchedulerConfig {
        AuraSchedulerConfig {
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

impl AuraSchedulerConfig {
    /// Refuses what is not implemented and what cannot be.
    ///
    /// # Errors
    /// The first such value, by its name.
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
        // 0 is the same as null upstream.
        let terminal = self.shift_terminal.filter(|t| *t != 0.0);
        supported(WHAT, "shift_terminal", "set", terminal.is_none(), "null")?;
        supported(WHAT, "shift", self.shift, self.shift > 0.0 && self.shift.is_finite(), "above 0")?;
        let steps = self.num_train_timesteps;
        supported(WHAT, "num_train_timesteps", steps, steps as f64 == TRAIN_STEPS, "1000")
    }

    /// The levels of `steps >= 1`. The pipeline hands the scheduler their number alone.
    #[must_use]
    pub fn schedule(&self, steps: usize) -> Schedule {
        Schedule::new(steps, self.shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_values_are_refused_by_name() {
        let refused = |change: &dyn Fn(&mut AuraSchedulerConfig)| {
            let mut config = AuraSchedulerConfig::default();
            config.check().unwrap();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(refused(&|c| c.use_dynamic_shifting = true).contains("`use_dynamic_shifting` is true"));
        assert!(refused(&|c| c.use_karras_sigmas = true).contains("`use_karras_sigmas` is true"));
        assert!(refused(&|c| c.shift_terminal = Some(0.1)).contains("`shift_terminal` is set"));
        assert!(refused(&|c| c.shift = f64::NAN).contains("`shift` is NaN"));
        assert!(refused(&|c| c.num_train_timesteps = 500).contains("`num_train_timesteps` is 500"));
    }
}
