//! One step of sampling, for every solver that the methods use.
//!
//! With `x0 = x - sigma v` and `x1 = x + (1 - sigma) v` every one of them is linear in the state and the velocity,
//! so a step is four numbers: `mean = a x + b v + c x0_before`, `std`. Objectives that need the mean (ratios, KL)
//! and the sampler that draws from it read the same numbers.

use crate::Schedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a state moves to the next noise level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Solver {
    /// Euler (`noise_level` 0), or Flow-GRPO's SDE with `s = noise_level sqrt(sigma / (1 - sigma))`.
    Flow {
        /// Flow-GRPO's `a`; 0 is Euler's ODE.
        #[schemars(range(min = 0.0, max = 10.0))]
        noise_level: f64,
    },
    /// DanceGRPO's SDE, with a standard deviation of `eta` per unit of time.
    Dance {
        /// Standard deviation per unit of time; 0 is Euler's ODE.
        #[schemars(range(min = 0.0, max = 10.0))]
        eta: f64,
    },
    /// DDIM.
    Ddim {
        /// Share of the posterior's standard deviation; 0 is Euler's ODE.
        #[schemars(range(min = 0.0, max = 1.0))]
        eta: f64,
    },
    /// Coefficients-preserving sampling: `std = sigma' sin(noise_level pi / 2)`.
    Cps {
        /// Share of the next noise level that is drawn anew; 0 is Euler's ODE.
        #[schemars(range(min = 0.0, max = 1.0))]
        noise_level: f64,
    },
    /// DPM-Solver++ with data prediction, deterministic, multistep.
    Dpm {
        /// Its order.
        #[schemars(range(min = 1, max = 2))]
        order: u8,
    },
}

impl Default for Solver {
    fn default() -> Self {
        Self::Flow { noise_level: 0.0 }
    }
}

/// One step as numbers: the next state is normal with mean `state x + velocity v + before x0_before` and standard
/// deviation `std`, the same in every dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Coefficient of the state.
    pub state: f64,
    /// Coefficient of the velocity.
    pub velocity: f64,
    /// Coefficient of the clean-image estimate of the step before (second order only).
    pub before: f64,
    /// Standard deviation; 0 in a deterministic step.
    pub std: f64,
    /// The noise level before.
    pub sigma: f64,
    /// The noise level after.
    pub next: f64,
}

impl Step {
    /// Length of the step in noise level, positive.
    #[must_use]
    pub fn length(&self) -> f64 {
        self.sigma - self.next
    }
    /// From coefficients of the clean-image and noise estimates.
    fn from_estimates(clean: f64, noise: f64, std: f64, sigma: f64, next: f64) -> Self {
        Self { state: clean + noise, velocity: (1.0 - sigma) * noise - sigma * clean, before: 0.0, std, sigma, next }
    }
}

impl Solver {
    /// Whether no noise is added on the way.
    #[must_use]
    pub fn deterministic(&self) -> bool {
        match *self {
            Self::Flow { noise_level } | Self::Cps { noise_level } => noise_level == 0.0,
            Self::Dance { eta } | Self::Ddim { eta } => eta == 0.0,
            Self::Dpm { .. } => true,
        }
    }

    /// Step `j` of `schedule`.
    #[must_use]
    pub fn step(&self, schedule: &Schedule, j: usize) -> Step {
        let (sigma, next) = (schedule.sigma(j), schedule.sigma(j + 1));
        let euler = Step { state: 1.0, velocity: next - sigma, before: 0.0, std: 0.0, sigma, next };
        match *self {
            Self::Flow { noise_level: 0.0 } => euler,
            Self::Flow { noise_level } => flow_sde(schedule, j, noise_level),
            Self::Dance { eta } => {
                // score = -(x - (1 - sigma) x0) / sigma^2, with x0 = x - sigma v
                let (d, half) = (next - sigma, 0.5 * eta * eta);
                Step {
                    state: 1.0 + half * d / sigma,
                    velocity: d + half * d * (1.0 - sigma) / sigma,
                    std: eta * (-d).sqrt(),
                    ..euler
                }
            }
            Self::Ddim { eta } => {
                let kept = if next == 0.0 { 0.0 } else { (next * (1.0 - sigma) / (sigma * (1.0 - next))).powi(2) };
                let std = eta * next * (1.0 - kept).max(0.0).sqrt();
                Step::from_estimates(1.0 - next, (next * next - std * std).max(0.0).sqrt(), std, sigma, next)
            }
            Self::Cps { noise_level } => {
                let angle = noise_level * std::f64::consts::FRAC_PI_2;
                Step::from_estimates(1.0 - next, next * angle.cos(), next * angle.sin(), sigma, next)
            }
            Self::Dpm { order } => {
                // The half log signal-to-noise ratio is infinite at both ends; the steps there are Euler's.
                if order < 2 || j == 0 || next == 0.0 || schedule.sigma(j - 1) >= 1.0 {
                    return euler;
                }
                let lambda = |s: f64| ((1.0 - s) / s).ln();
                let (h, h_before) = (lambda(next) - lambda(sigma), lambda(sigma) - lambda(schedule.sigma(j - 1)));
                let c = (1.0 - next) * ((-h).exp() - 1.0);
                let half = 0.5 * h / h_before;
                Step {
                    state: next / sigma - c * (1.0 + half),
                    velocity: c * (1.0 + half) * sigma,
                    before: c * half,
                    ..euler
                }
            }
        }
    }
}

/// Flow-GRPO's reverse SDE (paper eq. 9; code `sd3_sde_with_logprob`).
fn flow_sde(schedule: &Schedule, j: usize, noise_level: f64) -> Step {
    let (sigma, next) = (schedule.sigma(j), schedule.sigma(j + 1));
    let d = next - sigma;
    // At sigma 1 the denominator would be 0: the second level of the schedule stands in for it there.
    let at = if sigma >= 1.0 { next } else { sigma };
    let variance = noise_level * noise_level * sigma / (1.0 - at);
    Step {
        state: 1.0 + variance * d / (2.0 * sigma),
        velocity: (1.0 + variance * (1.0 - sigma) / (2.0 * sigma)) * d,
        before: 0.0,
        std: (variance * -d).sqrt(),
        sigma,
        next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ten() -> Schedule {
        Schedule::new(10, 3.0)
    }

    #[test]
    fn flow_sde_numbers() {
        // (std, coefficient of x, coefficient of v) at noise level 0.7, ten steps
        let table = [
            (0.7000, 0.7550, -0.03987),
            (0.7430, 0.7125, -0.05824),
            (0.5362, 0.8426, -0.06929),
            (0.4459, 0.8841, -0.08382),
            (0.3918, 0.9029, -0.10345),
            (0.3528, 0.9120, -0.13088),
            (0.3191, 0.9155, -0.17091),
            (0.2820, 0.9145, -0.23260),
            (0.2254, 0.9087, -0.33505),
            (0.0063, 0.9978, -0.01112),
        ];
        for (j, (std, x, v)) in table.into_iter().enumerate() {
            let step = Solver::Flow { noise_level: 0.7 }.step(&ten(), j);
            assert!(
                (step.std - std).abs() < 6e-5 && (step.state - x).abs() < 6e-5 && (step.velocity - v).abs() < 6e-6,
                "{j} {step:?}"
            );
        }
    }

    #[test]
    fn without_noise_all_first_order_solvers_are_eulers() {
        let schedule = ten();
        for j in 0..10 {
            let euler = Solver::default().step(&schedule, j);
            for solver in [
                Solver::Dance { eta: 0.0 },
                Solver::Ddim { eta: 0.0 },
                Solver::Cps { noise_level: 0.0 },
                Solver::Dpm { order: 1 },
                Solver::Flow { noise_level: 1e-9 },
            ] {
                let step = solver.step(&schedule, j);
                assert!(
                    (step.state - euler.state).abs() < 1e-12 && (step.velocity - euler.velocity).abs() < 1e-12,
                    "{solver:?} {j}"
                );
                assert!(step.std < 1e-8);
            }
        }
    }

    #[test]
    fn preserving_solvers_keep_the_noise_level() {
        // The variance that a step leaves, that of the kept noise and that of the new, must be the next level's.
        let schedule = ten();
        for solver in [Solver::Ddim { eta: 0.8 }, Solver::Cps { noise_level: 0.8 }] {
            for j in 0..10 {
                let step = solver.step(&schedule, j);
                // state x + velocity v with x = (1-s) x0 + s e, v = e - x0
                let noise = step.state * step.sigma + step.velocity;
                let clean = step.state * (1.0 - step.sigma) - step.velocity;
                assert!((clean - (1.0 - step.next)).abs() < 1e-12);
                assert!((noise * noise + step.std * step.std - step.next * step.next).abs() < 1e-12, "{solver:?} {j}");
            }
        }
    }

    #[test]
    fn second_order_is_exact_where_the_estimate_is_linear_in_log_snr() {
        // With a constant estimate of the clean image order 2 must agree with order 1.
        let schedule = ten();
        for j in 0..10 {
            let (one, two) = (Solver::Dpm { order: 1 }.step(&schedule, j), Solver::Dpm { order: 2 }.step(&schedule, j));
            let (clean, noise) = (0.3, -1.2);
            let (x, v) = ((1.0 - one.sigma) * clean + one.sigma * noise, noise - clean);
            let a = one.state * x + one.velocity * v;
            let b = two.state * x + two.velocity * v + two.before * clean;
            assert!((a - b).abs() < 1e-12, "{j} {a} {b}");
        }
    }
}
