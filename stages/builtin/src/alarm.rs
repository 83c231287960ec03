//! Alarms on metrics: a run that collapses is told of, or stopped.

use crate::learn::Course;
use anyhow::Result;
use opdflow_stage::warning::ALARM;
use opdflow_stage::{Fault, ParamFault, StageContext};
use opdflow_training::objective::Report;
use opdflow_training::train::Learner;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// When a metric means trouble.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// Trouble above this value.
    #[schemars(range(min = -1e12, max = 1e12))]
    #[serde(default)]
    above: Option<f64>,
    /// Trouble below this value.
    #[schemars(range(min = -1e12, max = 1e12))]
    #[serde(default)]
    below: Option<f64>,
    /// Rounds in a row before it rings.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default = "three")]
    rounds: u64,
    /// Whether it ends the run; otherwise it warns, once.
    #[serde(default)]
    stop: bool,
}

fn three() -> u64 {
    3
}

impl Alarm {
    fn troubled(&self, value: f64) -> bool {
        self.above.is_some_and(|a| value > a) || self.below.is_some_and(|b| value < b) || value.is_nan()
    }
}

/// Alarms by the metric that they watch.
pub type Alarms = BTreeMap<String, Alarm>;

/// What every teacher is watched for unless the recipe says otherwise: nearly all groups agree, so that there is nothing
/// left to learn from.
#[must_use]
pub fn standing() -> Alarms {
    [("flat_groups".to_owned(), Alarm { above: Some(0.95), below: None, rounds: 10, stop: false })].into()
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

/// Watches each round's report, and hands on to `inner`.
pub struct Watched<C> {
    inner: C,
    alarms: Alarms,
    /// Rounds in a row that each alarm has been in trouble.
    since: BTreeMap<String, u64>,
}

impl<C: Course> Watched<C> {
    /// `inner`, watched. What the recipe says of a metric replaces the standing alarm.
    pub fn new(inner: C, mut alarms: Alarms) -> Self {
        for (name, alarm) in standing() {
            alarms.entry(name).or_insert(alarm);
        }
        Self { inner, alarms, since: BTreeMap::new() }
    }

    /// The course inside.
    pub fn inner(&self) -> &C {
        &self.inner
    }

    /// What rings after this report, if anything: the words, and whether the run ends.
    fn ring(&mut self, report: &Report) -> Option<(String, bool)> {
        let mut rung: Option<(String, bool)> = None;
        for (name, alarm) in &self.alarms {
            let Some((_, value)) = report.iter().find(|(n, _)| n == name) else { continue };
            let since = self.since.entry(name.clone()).or_insert(0);
            *since = if alarm.troubled(*value) { *since + 1 } else { 0 };
            if *since == alarm.rounds {
                let words = format!("`{name}` has been in trouble for {since} rounds; it is {value:.4} now");
                if rung.as_ref().is_none_or(|(_, stops)| !stops) {
                    rung = Some((words, alarm.stop));
                }
            }
        }
        rung
    }
}

impl<C: Course> Course for Watched<C> {
    fn after(&mut self, round: u64, report: &Report, learner: &Learner, context: &mut StageContext) -> Result<()> {
        match self.ring(report) {
            Some((words, true)) => {
                return Err(Fault::user(format!("round {round}: {words}"))
                    .help("lower the learning rate or raise `kl`, or take an earlier candidate; the alarm is in the recipe, below `alarms`")
                    .into());
            }
            Some((words, false)) => {
                context.say(format!("round {round}: {words}"));
                context.warn_again(ALARM, "an alarm on a metric rang; the log says which, and when");
            }
            None => {}
        }
        self.inner.after(round, report, learner, context)
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.inner.save(folder)
    }

    fn load(&mut self, folder: &Path) -> Result<()> {
        self.inner.load(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Plain;

    #[test]
    fn it_rings_once_after_so_many_rounds_in_a_row() {
        let alarm = Alarm { above: None, below: Some(0.1), rounds: 2, stop: true };
        let mut watched = Watched::new(Plain, [("reward_std".to_owned(), alarm)].into());
        let mut at = |value: f64| watched.ring(&vec![("reward_std".to_owned(), value)]).map(|(_, stop)| stop);
        assert_eq!([0.05, 0.2, 0.05, 0.04, 0.03].map(&mut at), [None, None, None, Some(true), None]);
        assert_eq!(at(f64::NAN), None);
    }

    #[test]
    fn an_alarm_without_a_bound_is_a_mistake() {
        let silent = Alarm { above: None, below: None, rounds: 2, stop: true };
        assert_eq!(check(&[("kl".to_owned(), silent)].into()).len(), 1);
        assert!(check(&standing()).is_empty());
    }
}
