//! When a training ends by its own validation score: the rule, which is a function of the scores alone.

use crate::cost::passes::Passes;
use crate::model::sampling::ImageSampling;
use opdflow_api::ParamFault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Until {
    /// A score counts as a gain if it is larger by more than this than the last one that counted, at first the first. Smaller gains
    /// in one direction add up until they count.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub gain: f64,
    /// Scorings in a row without a gain after which training ends.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub patience: u64,
    /// Rounds between scorings, a multiple of `candidates_every`; `candidates_every` itself if absent.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// How the validation images are sampled, one of each prompt.
    #[serde(default = "twenty_steps")]
    pub sampling: ImageSampling,
}

/// As `select_checkpoint` samples.
fn twenty_steps() -> ImageSampling {
    ImageSampling { num_inference_steps: 20, ..ImageSampling::default() }
}

/// How a training stands by its scores.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// The round of the highest score and that score; of equals the first.
    pub best: Option<(u64, f64)>,
    /// The round at which the rule ended it, if it has. Scores of later rounds have no part in this.
    pub ended: Option<u64>,
}

impl Until {
    /// Rounds between scorings.
    #[must_use]
    pub fn every(&self, candidates_every: u64) -> u64 {
        self.every.unwrap_or(candidates_every).max(1)
    }

    /// Operations of scoring one image.
    #[must_use]
    pub fn operations(&self, model: &Passes) -> f64 {
        model.image(self.sampling.num_inference_steps, self.sampling.guidance_scale)
    }

    /// What these scores, by their round, say.
    #[must_use]
    pub fn standing(&self, scores: &BTreeMap<u64, f64>) -> Standing {
        let (mut standing, mut mark, mut idle) = (Standing::default(), None, 0);
        for (&round, &score) in scores {
            if standing.best.is_none_or(|(_, best)| score > best) {
                standing.best = Some((round, score));
            }
            if mark.is_none_or(|mark| score > mark + self.gain) {
                (mark, idle) = (Some(score), 0);
            } else {
                idle += 1;
            }
            if idle >= self.patience {
                return Standing { ended: Some(round), ..standing };
            }
        }
        standing
    }

    /// What is wrong with its numbers for a training of at most `iterations` rounds, if that is given.
    #[must_use]
    pub fn faults(&self, candidates_every: u64, iterations: Option<u64>) -> Vec<ParamFault> {
        let every = self.every(candidates_every);
        let at = if self.every.is_some() { "until.every" } else { "until" };
        let mut faults = Vec::new();
        if !every.is_multiple_of(candidates_every.max(1)) {
            let what = format!("it scores every {every} rounds, but a candidate is kept every {candidates_every}");
            faults.push(
                ParamFault::new(at, what).help("the rule scores candidates: take a multiple of `candidates_every`"),
            );
        }
        if let Some(most) = iterations.filter(|most| every > *most) {
            let what =
                format!("it scores every {every} rounds, but there are {most} at the most: nothing is ever scored");
            faults.push(ParamFault::new(at, what).help("score more often, or raise `iterations`"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(gain: f64, patience: u64) -> Until {
        Until { gain, patience, every: None, sampling: twenty_steps() }
    }

    /// Scores every 20 rounds.
    fn standing(rule: &Until, scores: &[f64]) -> Standing {
        rule.standing(&(1..).map(|n| n * 20).zip(scores.iter().copied()).collect())
    }

    #[test]
    fn it_ends_after_so_many_scorings_in_a_row_without_a_gain() {
        let scores = [0.50, 0.60, 0.601, 0.604, 0.70, 0.69, 0.703, 0.704, 0.90];
        let found = standing(&rule(0.005, 3), &scores);
        // .601 and .604 gain too little over .60, but .70 comes before the third; after it .69, .703 and .704 do not gain.
        assert_eq!(found, Standing { best: Some((160, 0.704)), ended: Some(160) });
        assert_eq!(standing(&rule(0.005, 2), &scores), Standing { best: Some((80, 0.604)), ended: Some(80) });
        assert_eq!(standing(&rule(0.005, 3), &scores[..7]), Standing { best: Some((140, 0.703)), ended: None });
        assert_eq!(standing(&rule(0.005, 4), &scores).ended, None, ".90 came in time");
        assert_eq!(standing(&rule(0.005, 1), &[]), Standing::default());
    }

    #[test]
    fn small_gains_add_up_until_they_count() {
        // Each is .004 above the one before: every second one is more than .005 above the last that counted.
        let slow: Vec<f64> = (0..8).map(|n| 0.5 + 0.004 * f64::from(n)).collect();
        assert_eq!(standing(&rule(0.005, 2), &slow).ended, None);
        assert_eq!(standing(&rule(0.005, 1), &slow).ended, Some(40));
        // Exactly the gain is no more than it; binary fractions, so that nothing is rounded.
        assert_eq!(standing(&rule(0.25, 2), &[0.5, 0.75, 0.75]).ended, Some(60));
        assert_eq!(standing(&rule(0.0, 2), &[0.5, 0.5, 0.5]).ended, Some(60), "equal is no gain");
    }

    #[test]
    fn of_equal_scores_the_first_is_the_best() {
        let found = standing(&rule(0.0, 2), &[0.4, 0.6, 0.6, 0.5]);
        assert_eq!(found, Standing { best: Some((40, 0.6)), ended: Some(80) });
    }

    #[test]
    fn numbers_that_do_not_go_with_the_training_are_faults() {
        let paths = |every, candidates, most| -> Vec<String> {
            let rule = Until { every, ..rule(0.01, 3) };
            rule.faults(candidates, most).into_iter().map(|f| f.path).collect()
        };
        assert!(paths(None, 20, Some(20)).is_empty() && paths(Some(40), 20, None).is_empty());
        assert_eq!(paths(None, 20, Some(19)), ["until"]);
        assert_eq!(paths(Some(30), 20, Some(100)), ["until.every"]);
        assert_eq!(paths(Some(30), 20, Some(10)), ["until.every", "until.every"]);
    }
}
