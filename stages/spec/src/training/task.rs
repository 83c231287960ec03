//! What a task says of itself, and in which order its prompts come.

use crate::rng::{Choices, derive};

/// How a task is practised where it differs from the others that it takes turns with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Practice {
    /// Factor on the learning rate in its rounds.
    pub rate: f64,
    /// Optimiser steps in each of its rounds, for methods that take several; the method's own number if none.
    pub updates: Option<usize>,
}

impl Default for Practice {
    /// As all others.
    fn default() -> Self {
        Self { rate: 1.0, updates: None }
    }
}

/// What one of a task's rewards gave: at least one of these, all of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct Marks {
    /// The reward's name.
    pub name: String,
    /// Its weight in the sum.
    pub weight: f64,
    /// One value a picture.
    pub values: Vec<f64>,
}

impl Marks {
    /// The weighted sum of all.
    #[must_use]
    pub fn sum(marks: &[Self]) -> Vec<f64> {
        let count = marks.iter().map(|m| m.values.len()).min().unwrap_or(0);
        (0..count).map(|i| marks.iter().map(|m| m.weight * m.values[i]).sum()).collect()
    }
}

/// The `count` prompts of a round: an endless walk through shuffled passes over `0..total`, cut into rounds. The
/// place in the walk follows from `round`, so there is no cursor to lose.
#[must_use]
pub fn prompts_of_round(total: usize, count: usize, seed: u64, round: u64) -> Vec<usize> {
    let total = total.max(1);
    let first = round as usize * count;
    let mut pass = usize::MAX;
    let mut order = Vec::new();
    (first..first + count)
        .map(|i| {
            if i / total != pass {
                pass = i / total;
                order = Choices::new(derive(seed, "prompts", pass as u64)).permutation(total);
            }
            order[i % total]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::prompts_of_round;

    #[test]
    fn a_pass_visits_every_prompt_once() {
        let mut seen: Vec<usize> = (0..5).flat_map(|round| prompts_of_round(10, 4, 1, round)).take(20).collect();
        let second = seen.split_off(10);
        for mut pass in [seen, second] {
            pass.sort_unstable();
            assert_eq!(pass, (0..10).collect::<Vec<_>>());
        }
    }
}
