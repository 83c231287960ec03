//! `scheduler/scheduler_config.json` of diffusers' `FlowMatchEulerDiscreteScheduler`, which all families have.

use super::{Schedule, TRAIN_STEPS};
use crate::config::supported;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

const WHAT: &str = "scheduler config";

/// The configuration, with the scheduler's defaults. Stable Diffusion 3 and AuraFlow shift by one number, FLUX.1-dev by the number of
/// image tokens, FLUX.1-schnell not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulerConfig {
    /// What sigma is multiplied by to give the timestep.
    pub num_train_timesteps: i64,
    /// The static shift, used without `use_dynamic_shifting`.
    pub shift: f64,
    /// Shift by the number of image tokens.
    pub use_dynamic_shifting: bool,
    /// mu for `base_image_seq_len` tokens; 0.5 where null.
    pub base_shift: Option<f64>,
    /// mu for `max_image_seq_len` tokens; 1.15 where null.
    pub max_shift: Option<f64>,
    /// Image tokens that have `base_shift`.
    pub base_image_seq_len: i64,
    /// Image tokens that have `max_shift`. More have more, along the same line.
    pub max_image_seq_len: i64,
    /// What is made of mu: `exponential` or `linear`.
    pub time_shift_type: String,
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
            base_shift: Some(0.5),
            max_shift: Some(1.15),
            base_image_seq_len: 256,
            max_image_seq_len: 4096,
            time_shift_type: "exponential".into(),
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
    /// Refuses what is not implemented and what cannot be, for a pipeline that tells its scheduler how many image tokens there are
    /// (`FluxPipeline`).
    ///
    /// # Errors
    /// The first such value, by its name.
    pub fn check(&self) -> Result<()> {
        for (key, on) in [
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
        let steps = self.num_train_timesteps;
        supported(WHAT, "num_train_timesteps", steps, steps as f64 == TRAIN_STEPS, "1000")?;
        supported(WHAT, "shift", self.shift, self.shift > 0.0 && self.shift.is_finite(), "above 0")?;
        if !self.use_dynamic_shifting {
            return Ok(());
        }
        let kind = &self.time_shift_type;
        let linear = kind == "linear";
        supported(WHAT, "time_shift_type", kind, linear || kind == "exponential", "exponential, linear")?;
        for (key, mu) in [("base_shift", self.base()), ("max_shift", self.max())] {
            supported(WHAT, key, mu, mu.is_finite() && (!linear || mu > 0.0), "a finite number, above 0 if linear")?;
        }
        let (base, max) = (self.base_image_seq_len, self.max_image_seq_len);
        ensure!(
            0 <= base && base < max,
            "{WHAT}: `base_image_seq_len` is {base} and `max_image_seq_len` is {max}; the second must be the larger one"
        );
        Ok(())
    }

    /// The same for a pipeline that tells its scheduler the number of steps alone (`StableDiffusion3Pipeline`, `AuraFlowPipeline`): a
    /// shift by tokens is refused.
    ///
    /// # Errors
    /// The first such value, by its name.
    pub fn check_static(&self) -> Result<()> {
        let dynamic = self.use_dynamic_shifting;
        supported(WHAT, "use_dynamic_shifting", dynamic, !dynamic, "false")?;
        self.check()
    }

    fn base(&self) -> f64 {
        self.base_shift.unwrap_or(0.5)
    }

    fn max(&self) -> f64 {
        self.max_shift.unwrap_or(1.15)
    }

    /// mu for this many image tokens: on the line through the two points of the configuration (`calculate_shift` of
    /// `FluxPipeline`).
    #[must_use]
    pub fn mu(&self, image_tokens: i64) -> f64 {
        let slope = (self.max() - self.base()) / (self.max_image_seq_len - self.base_image_seq_len) as f64;
        image_tokens as f64 * slope + (self.base() - slope * self.base_image_seq_len as f64)
    }

    /// The shift `s` of a level u, `s u / (1 + (s - 1) u)`, for this many image tokens. Upstream's dynamic shifts are of this
    /// form, with s = exp(mu) or s = mu.
    #[must_use]
    pub fn shift_for(&self, image_tokens: i64) -> f64 {
        match (self.use_dynamic_shifting, self.time_shift_type.as_str()) {
            (false, _) => self.shift,
            (true, "linear") => self.mu(image_tokens),
            (true, _) => self.mu(image_tokens).exp(),
        }
    }

    /// The levels of `steps >= 1` that the scheduler makes of their number alone ([`SchedulerConfig::check_static`]).
    #[must_use]
    pub fn schedule(&self, steps: usize) -> Schedule {
        Schedule::new(steps, self.shift)
    }

    /// The levels of `steps >= 1` that a pipeline hands it, for this many image tokens.
    #[must_use]
    pub fn handed(&self, steps: usize, image_tokens: i64) -> Schedule {
        Schedule::handed(steps, self.shift_for(image_tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_values_are_refused_by_name() {
        let dev = || SchedulerConfig { use_dynamic_shifting: true, ..SchedulerConfig::default() };
        dev().check().unwrap();
        let refused = |change: &dyn Fn(&mut SchedulerConfig)| {
            let mut config = dev();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(refused(&|c| c.use_karras_sigmas = true).contains("`use_karras_sigmas` is true"));
        assert!(refused(&|c| c.use_beta_sigmas = true).contains("`use_beta_sigmas` is true"));
        assert!(refused(&|c| c.shift_terminal = Some(0.1)).contains("`shift_terminal` is set"));
        assert!(refused(&|c| c.time_shift_type = "cosine".into()).contains("`time_shift_type` is cosine"));
        assert!(refused(&|c| c.max_image_seq_len = 256).contains("`max_image_seq_len` is 256"));
        assert!(refused(&|c| c.base_shift = Some(f64::NAN)).contains("`base_shift` is NaN"));
        assert!(refused(&|c| c.num_train_timesteps = 500).contains("`num_train_timesteps` is 500"));
        assert!(refused(&|c| c.shift = f64::NAN).contains("`shift` is NaN"));
        assert!(dev().check_static().unwrap_err().to_string().contains("`use_dynamic_shifting` is true"));
        SchedulerConfig { shift_terminal: Some(0.0), ..SchedulerConfig::default() }.check_static().unwrap();
    }

    #[test]
    fn mu_is_on_the_line_through_the_two_points() {
        let c = SchedulerConfig { use_dynamic_shifting: true, ..SchedulerConfig::default() };
        assert!((c.mu(256) - 0.5).abs() < 1e-12 && (c.mu(4096) - 1.15).abs() < 1e-12);
        assert!((c.mu((256 + 4096) / 2) - 0.825).abs() < 1e-12);
        assert!((c.shift_for(4096) - 1.15f64.exp()).abs() < 1e-12);
        assert_eq!(SchedulerConfig::default().shift_for(4096), 1.0);
    }
}
