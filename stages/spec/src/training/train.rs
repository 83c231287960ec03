//! The learning rate over the rounds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The metric of the gradient's norm before clipping, which every training reports.
pub const GRAD_NORM: &str = "grad_norm";

/// The metric of the learning rate of a round, which every training reports.
pub const LR: &str = "lr";

/// How the learning rate changes over the rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LrSchedule {
    /// Rounds in which it grows linearly from 0.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub warmup: u64,
    /// Rounds after which it falls linearly, until `until`; never if absent.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub hold: Option<u64>,
    /// Round at which it has fallen to a hundredth. It goes with `hold`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub until: Option<u64>,
}

impl LrSchedule {
    /// Factor on the learning rate in round `k`, in `(0, 1]`.
    #[must_use]
    pub fn factor(&self, k: u64) -> f64 {
        let up = if self.warmup > 0 { ((k + 1) as f64 / self.warmup as f64).min(1.0) } else { 1.0 };
        let down = match (self.hold, self.until) {
            (Some(hold), Some(until)) if k > hold && until > hold => {
                (1.0 - (k - hold) as f64 / (until - hold) as f64).max(0.01)
            }
            _ => 1.0,
        };
        up * down
    }

    /// What is to be said of a training of `rounds` rounds of which more than a tenth come after the rate has fallen to a hundredth,
    /// and so hardly learn: the schedule is another training's.
    #[must_use]
    pub fn spent(&self, rounds: u64) -> Option<String> {
        let (_, until) = self.hold.zip(self.until)?;
        let left = rounds.saturating_sub(until);
        (left > rounds / 10).then(|| {
            format!(
                "the learning rate has fallen to a hundredth at round {until}: the other {left} of {rounds} hardly learn"
            )
        })
    }

    /// What is wrong with its numbers together, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        match (self.hold, self.until) {
            (Some(hold), Some(until)) if until <= hold => {
                Some(format!("it holds for {hold} rounds, but has fallen at round {until}"))
            }
            (Some(_), None) => Some("it falls after `hold`, but nothing says until when".into()),
            (None, Some(_)) => Some("it has fallen at `until`, but nothing says from when".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lr_schedule_rises_and_falls() {
        let lr_schedule = LrSchedule { warmup: 10, hold: Some(100), until: Some(200) };
        assert!((lr_schedule.factor(0) - 0.1).abs() < 1e-12 && (lr_schedule.factor(50) - 1.0).abs() < 1e-12);
        assert!((lr_schedule.factor(150) - 0.5).abs() < 1e-12 && (lr_schedule.factor(500) - 0.01).abs() < 1e-12);
        assert_eq!(lr_schedule.fault(), None);
        for (hold, until) in [(Some(5), None), (None, Some(5)), (Some(5), Some(5))] {
            assert!(LrSchedule { hold, until, ..lr_schedule }.fault().is_some());
        }
    }

    #[test]
    fn a_schedule_that_ends_early_is_said() {
        let lr_schedule = LrSchedule { warmup: 10, hold: Some(100), until: Some(200) };
        assert_eq!([10, 200, 222].map(|rounds| lr_schedule.spent(rounds)), [None, None, None]);
        let words = "the learning rate has fallen to a hundredth at round 200: the other 23 of 223 hardly learn";
        assert_eq!(lr_schedule.spent(223).as_deref(), Some(words));
        assert_eq!(LrSchedule::default().spent(u64::MAX), None);
    }
}
