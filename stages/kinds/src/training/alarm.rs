//! Alarms on metrics: what a run is watched for.

use opdflow_api::ParamFault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// When a metric means trouble.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// Alarm above this value.
    #[schemars(range(min = -1e12, max = 1e12))]
    #[serde(default)]
    pub above: Option<f64>,
    /// Alarm below this value.
    #[schemars(range(min = -1e12, max = 1e12))]
    #[serde(default)]
    pub below: Option<f64>,
    /// Rounds in a row before the alarm is given.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default = "three")]
    pub rounds: u64,
    /// Whether it ends the run; otherwise it warns, once.
    #[serde(default)]
    pub stop: bool,
}

fn three() -> u64 {
    3
}

impl Alarm {
    /// What it watches for, in words.
    #[must_use]
    pub fn words(&self) -> String {
        let bound = |word: &str, value: Option<f64>| value.map(|v| format!("{word} {v}"));
        let bounds: Vec<String> =
            [bound("above", self.above), bound("below", self.below)].into_iter().flatten().collect();
        format!("{} for {} rounds in a row", bounds.join(" or "), self.rounds)
    }

    /// Whether a value means trouble. One that is no number does.
    #[must_use]
    pub fn troubled(&self, value: f64) -> bool {
        self.above.is_some_and(|a| value > a) || self.below.is_some_and(|b| value < b) || value.is_nan()
    }
}

/// Alarms by the metric that they watch.
pub type Alarms = BTreeMap<String, Alarm>;

/// What every teacher is watched for unless the recipe says otherwise: nearly all groups agree, so that there is nothing
/// left to learn from; nearly all ratios are clipped, so that nothing is learned from them; latents lose their spread, which is an
/// even image, or gain several times that of images, which is noise.
#[must_use]
pub fn standing() -> Alarms {
    let bounded = |above, below, rounds| Alarm { above, below, rounds, stop: false };
    [
        ("flat_groups", bounded(Some(0.95), None, 10)),
        ("clipped", bounded(Some(0.95), None, 10)),
        ("latent_std", bounded(Some(5.0), Some(0.1), 5)),
    ]
    .map(|(name, alarm)| (name.to_owned(), alarm))
    .into()
}

/// What is wrong with the numbers below the parameter `alarms`.
#[must_use]
pub fn check(alarms: &Alarms) -> Vec<ParamFault> {
    let wrong = |(name, alarm): (&String, &Alarm)| {
        let at = format!("alarms.{name}");
        let silent = alarm.above.is_none() && alarm.below.is_none();
        silent.then(|| ParamFault::new(at, "this alarm never rings").help("give it `above` or `below`"))
    };
    alarms.iter().filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_without_a_bound_is_a_mistake() {
        let silent = Alarm { above: None, below: None, rounds: 2, stop: true };
        assert_eq!(check(&[("kl".to_owned(), silent)].into()).len(), 1);
        assert!(check(&standing()).is_empty());
    }
}
