//! What a task says of itself, and in which order its prompts come.

use crate::rng::{Choices, derive};

/// Settings of a task's rounds, where they differ from those of the tasks that it takes turns with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskSettings {
    /// Factor on the learning rate in its rounds.
    pub rate: f64,
    /// Optimizer steps in each of its rounds, for methods that take several; the method's own number if none.
    pub updates: Option<usize>,
}

impl Default for TaskSettings {
    /// As all others.
    fn default() -> Self {
        Self { rate: 1.0, updates: None }
    }
}

/// What one of a task's rewards gave: at least one of these, all of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct RewardValues {
    /// The reward's name.
    pub name: String,
    /// Its weight in the sum.
    pub weight: f64,
    /// One value per image.
    pub values: Vec<f64>,
}

impl RewardValues {
    /// The weighted sum of all.
    #[must_use]
    pub fn sum(scores: &[Self]) -> Vec<f64> {
        let count = scores.iter().map(|m| m.values.len()).min().unwrap_or(0);
        (0..count).map(|i| scores.iter().map(|m| m.weight * m.values[i]).sum()).collect()
    }
}

/// The `count` prompts of a round: endless shuffled passes over `0..total`, cut into rounds. The place follows from
/// `round`, so that no position has to be saved.
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
