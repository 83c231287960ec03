//! Which steps of a rollout are noisy and trained; the rest go along the ODE (Flow-GRPO-Fast, MixGRPO).

use crate::rng::{Choices, derive};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A window of steps. Its place changes from round to round: at random, or by sliding from noisy to clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Steps in the window.
    #[schemars(range(min = 1, max = 1000))]
    pub width: usize,
    /// First step that it may hold.
    #[schemars(range(min = 0, max = 1000))]
    #[serde(default)]
    pub from: usize,
    /// End of its range, exclusive; all trained steps of the schedule if absent.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default)]
    pub until: Option<usize>,
    /// Rounds after which it slides on by one step, back to the start at the end (MixGRPO: 25). If absent its place is
    /// drawn anew each round (Flow-GRPO-Fast).
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default)]
    pub slide: Option<u64>,
}

impl Window {
    /// The steps of round `round`, within `0..trained`. Never empty.
    #[must_use]
    pub fn of_round(&self, trained: usize, seed: u64, round: u64) -> Range<usize> {
        let until = self.until.unwrap_or(trained).clamp(1, trained.max(1));
        let width = self.width.clamp(1, until);
        let from = self.from.min(until - width);
        let places = until - width - from + 1;
        let at = match self.slide {
            Some(every) => (round / every.max(1)) as usize % places,
            None => Choices::new(derive(seed, "window", round)).below(places),
        };
        from + at..from + at + width
    }

    /// What is wrong with the numbers for a schedule that trains `trained` steps, if anything.
    #[must_use]
    pub fn fault(&self, trained: usize) -> Option<String> {
        let until = self.until.unwrap_or(trained);
        if until > trained {
            Some(format!("`sde_window.until` is {until}, but only {trained} steps are trained"))
        } else if self.from.saturating_add(self.width) > until {
            Some(format!("a window of {} steps does not fit between step {} and step {until}", self.width, self.from))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_slides_and_returns() {
        let window = Window { width: 4, from: 0, until: None, slide: Some(25) };
        let starts: Vec<usize> = (0..7).map(|i| window.of_round(9, 1, i * 25).start).collect();
        assert_eq!(starts, [0, 1, 2, 3, 4, 5, 0]);
        assert_eq!(window.of_round(9, 1, 24), 0..4);
    }

    #[test]
    fn a_random_one_stays_in_its_range_and_visits_all_of_it() {
        let window = Window { width: 3, from: 1, until: Some(6), slide: None };
        let starts: std::collections::BTreeSet<usize> = (0..100).map(|k| window.of_round(9, 7, k).start).collect();
        assert_eq!(starts.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
        assert!((0..100).all(|k| window.of_round(9, 7, k).len() == 3));
    }

    #[test]
    fn faults_are_named_and_no_number_breaks_it() {
        for (window, wrong) in [
            (Window { width: 3, from: 0, until: Some(99), slide: None }, "until"),
            (Window { width: 9, from: 3, until: None, slide: None }, "fit"),
        ] {
            assert!(window.fault(9).unwrap().contains(wrong), "{window:?}");
        }
        // Not even one that its range refuses.
        for window in [
            Window { width: 0, from: 0, until: None, slide: None },
            Window { width: 9, from: 3, until: Some(99), slide: None },
            Window { width: 1, from: usize::MAX, until: None, slide: Some(0) },
        ] {
            let steps = window.of_round(9, 1, 3);
            assert!(!steps.is_empty() && steps.end <= 9, "{window:?}");
        }
        assert_eq!(Window { width: 3, from: 0, until: Some(5), slide: None }.fault(9), None);
    }
}
