//! Images on the way of a training: how often, and of how many prompts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Images of the same few prompts with the same noise, in the folder of the run while it trains. They are no output, and nothing
/// hangs on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Samples {
    /// Rounds between them; a tenth of the training's rounds if absent.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub every: Option<u64>,
    /// Prompts, taken in turn from the tasks; 0 for no images.
    #[schemars(range(min = 0, max = 64))]
    pub prompts: usize,
}

impl Default for Samples {
    fn default() -> Self {
        Self { every: None, prompts: 4 }
    }
}

impl Samples {
    /// Whether nobody has said anything of them.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Rounds between them, in a training of `rounds`.
    #[must_use]
    pub fn every(&self, rounds: u64) -> u64 {
        self.every.unwrap_or(rounds / 10).max(1)
    }

    /// Which prompts of tasks with so many each: by task and place, in turn.
    #[must_use]
    pub fn picked(&self, tasks: &[usize]) -> Vec<(usize, usize)> {
        let most = tasks.iter().copied().max().unwrap_or(0);
        let all = (0..most).flat_map(|place| (0..tasks.len()).map(move |task| (task, place)));
        all.filter(|(task, place)| *place < tasks[*task]).take(self.prompts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_taken_in_turn_from_the_tasks() {
        let of = |prompts| Samples { every: None, prompts };
        assert_eq!(of(4).picked(&[10]), [(0, 0), (0, 1), (0, 2), (0, 3)]);
        assert_eq!(of(4).picked(&[1, 9, 2]), [(0, 0), (1, 0), (2, 0), (1, 1)]);
        assert!(of(0).picked(&[3]).is_empty() && of(4).picked(&[]).is_empty());
        assert_eq!(of(9).picked(&[1, 1]).len(), 2);
    }

    #[test]
    fn a_tenth_of_the_rounds_lies_between_them() {
        assert_eq!([1, 9, 200, 205].map(|rounds| Samples::default().every(rounds)), [1, 1, 20, 20]);
        assert_eq!(Samples { every: Some(7), prompts: 1 }.every(200), 7);
    }
}
