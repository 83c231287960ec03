//! The noise levels that sampling visits (diffusers `FlowMatchEulerDiscreteScheduler`, static shift).

mod config;

pub use config::SchedulerConfig;

use anyhow::{Result, ensure};

/// Time steps of training; the network's time input is `1000 sigma`.
pub const TRAIN_STEPS: f64 = 1000.0;

/// `steps + 1` noise levels from 1 down to 0. The network sees [`TRAIN_STEPS`]` * sigma`.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    sigmas: Vec<f64>,
}

/// The shift of a noise level, `f(u) = s u / (1 + (s - 1) u)`: more of the steps go to the noisy end when `s > 1`.
#[must_use]
pub fn shifted(u: f64, shift: f64) -> f64 {
    shift * u / (1.0 + (shift - 1.0) * u)
}

impl Schedule {
    /// The levels that diffusers' scheduler gives for `steps >= 1`.
    ///
    /// The shift is applied twice, as there: once to the training table, whose ends are `f(1)` and `f(0.001)`, and
    /// again to the equally spaced values between those ends. So the last level above 0 is `f(f(0.001))` whatever
    /// the number of steps, and the last step is tiny.
    #[must_use]
    pub fn new(steps: usize, shift: f64) -> Self {
        let steps = steps.max(1);
        let (first, last) = (shifted(1.0, shift), shifted(1.0 / TRAIN_STEPS, shift));
        let gap = if steps > 1 { (last - first) / (steps - 1) as f64 } else { 0.0 };
        let sigmas = (0..steps).map(|k| shifted(first + gap * k as f64, shift)).chain([0.0]).collect();
        Self { sigmas }
    }

    /// Levels of another spacing, for models that have one.
    ///
    /// # Errors
    /// They do not fall from at most 1, each below the one before, to 0 at the end.
    pub fn of(sigmas: Vec<f64>) -> Result<Self> {
        let falling = sigmas.windows(2).all(|pair| pair[0] > pair[1]);
        let ends = sigmas.first().is_some_and(|first| (0.0..=1.0).contains(first)) && sigmas.last() == Some(&0.0);
        ensure!(
            falling && ends && sigmas.len() > 1,
            "noise levels {sigmas:?}, expected at least one step that falls from at most 1 to 0"
        );
        Ok(Self { sigmas })
    }

    /// The levels that diffusers' scheduler gives for `steps >= 1` sigmas which a pipeline hands it, equally spaced from 1 down to
    /// `1 / steps` (`FluxPipeline`): each is shifted once, and 0 follows.
    #[must_use]
    pub fn handed(steps: usize, shift: f64) -> Self {
        let steps = steps.max(1);
        let last = 1.0 / steps as f64;
        let gap = if steps > 1 { (1.0 - last) / (steps - 1) as f64 } else { 0.0 };
        let sigmas = (0..steps).map(|k| shifted(1.0 - gap * k as f64, shift)).chain([0.0]).collect();
        Self { sigmas }
    }

    /// Number of steps.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.sigmas.len() - 1
    }

    /// The level before step `j`, `j <= steps`; level `steps` is 0.
    #[must_use]
    pub fn sigma(&self, j: usize) -> f64 {
        self.sigmas[j]
    }

    /// All levels.
    #[must_use]
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// How many of the steps training uses: `floor(steps * 0.99)`, so that the tiny last step is left out
    /// (Flow-GRPO's `timestep_fraction`). At least one.
    #[must_use]
    pub fn trained(&self) -> usize {
        trained(self.steps())
    }
}

/// [`Schedule::trained`] of a schedule of `steps` steps.
#[must_use]
pub fn trained(steps: usize) -> usize {
    ((steps as f64 * 0.99).floor() as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(steps: usize, expected: &[f64]) {
        let schedule = Schedule::new(steps, 3.0);
        assert_eq!(schedule.sigmas().len(), expected.len());
        for (ours, theirs) in schedule.sigmas().iter().zip(expected) {
            assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
        }
    }

    #[test]
    fn tables_of_diffusers() {
        close(4, &[1.0, 0.857692, 0.602151, 0.008929, 0.0]);
        close(
            10,
            &[1.0, 0.960129, 0.913349, 0.857692, 0.790368, 0.707278, 0.602151, 0.464876, 0.278049, 0.008929, 0.0],
        );
        close(
            16,
            &[
                1.0, 0.976817, 0.951380, 0.923343, 0.892285, 0.857692, 0.818923, 0.775174, 0.725417, 0.668327,
                0.602151, 0.524533, 0.432225, 0.320621, 0.182965, 0.008929, 0.0,
            ],
        );
        close(
            40,
            &[
                1.0, 0.991331, 0.982356, 0.973058, 0.963421, 0.953424, 0.943048, 0.932270, 0.921067, 0.909412,
                0.897279, 0.884637, 0.871453, 0.857692, 0.843315, 0.828280, 0.812540, 0.796044, 0.778738, 0.760559,
                0.741440, 0.721306, 0.700074, 0.677652, 0.653936, 0.628812, 0.602151, 0.573805, 0.543612, 0.511384,
                0.476909, 0.439941, 0.400203, 0.357368, 0.311062, 0.260845, 0.206198, 0.146509, 0.081046, 0.008929,
                0.0,
            ],
        );
    }

    #[test]
    fn other_levels_fall_to_zero() {
        let shifted = Schedule::of(vec![1.0, 0.8, 0.5, 0.0]).unwrap();
        assert_eq!((shifted.steps(), shifted.sigma(1)), (3, 0.8));
        assert_eq!(Schedule::of(Schedule::new(4, 3.0).sigmas().to_vec()).unwrap(), Schedule::new(4, 3.0));
        for wrong in [&[1.0][..], &[0.0], &[], &[1.0, 0.5], &[0.5, 1.0, 0.0], &[1.5, 0.0], &[1.0, f64::NAN, 0.0]] {
            assert!(Schedule::of(wrong.to_vec()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_last_step_is_not_trained() {
        assert_eq!(Schedule::new(10, 3.0).trained(), 9);
        assert_eq!(Schedule::new(1, 3.0).trained(), 1);
    }
}
