//! A run that is watched: one that collapses is told of, or stopped.

use crate::runtime::learn::Course;
use anyhow::Result;
use opdflow_api::warning::ALARM;
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::training::alarm::{Alarms, standing};
use opdflow_training::objective::Report;
use opdflow_training::train::Learner;
use std::collections::BTreeMap;

/// Watches each round's report.
pub struct Watched {
    alarms: Alarms,
    /// Rounds in a row that each alarm has been in trouble.
    since: BTreeMap<String, u64>,
}

/// An alarm that rings.
struct Ring {
    /// What is the matter now.
    words: String,
    /// The same, in words that are equal each time.
    warning: String,
    /// Whether it ends the run.
    stops: bool,
}

impl Watched {
    /// What the recipe says of a metric replaces the standing alarm.
    #[must_use]
    pub fn new(mut alarms: Alarms) -> Self {
        for (name, alarm) in standing() {
            alarms.entry(name).or_insert(alarm);
        }
        Self { alarms, since: BTreeMap::new() }
    }

    /// What rings after this report, if anything.
    fn ring(&mut self, report: &Report) -> Option<Ring> {
        let mut rung: Option<Ring> = None;
        for (name, alarm) in &self.alarms {
            let Some((_, value)) = report.iter().find(|(n, _)| n == name) else { continue };
            let since = self.since.entry(name.clone()).or_insert(0);
            *since = if alarm.troubled(*value) { *since + 1 } else { 0 };
            if *since == alarm.rounds {
                let rings = Ring {
                    words: format!("`{name}` has been in trouble for {since} rounds; it is {value:.4} now"),
                    warning: format!("an alarm on a metric rang: `{name}` was {}", alarm.words()),
                    stops: alarm.stop,
                };
                if rung.as_ref().is_none_or(|r| !r.stops) {
                    rung = Some(rings);
                }
            }
        }
        rung
    }
}

impl Course for Watched {
    fn after(&mut self, round: u64, report: &Report, _: &Learner, context: &mut StageContext) -> Result<()> {
        match self.ring(report) {
            Some(Ring { words, stops: true, .. }) => {
                return Err(Fault::user(format!("round {round}: {words}"))
                    .help("lower the learning rate or raise `kl`, or take an earlier candidate; the alarm is in the recipe, below `alarms`")
                    .into());
            }
            Some(Ring { words, warning, .. }) => {
                context.say(format!("round {round}: {words}"));
                context.warn_again(ALARM, &warning);
            }
            None => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_kinds::training::alarm::Alarm;

    #[test]
    fn it_rings_once_after_so_many_rounds_in_a_row() {
        let alarm = Alarm { above: None, below: Some(0.1), rounds: 2, stop: true };
        let mut watched = Watched::new([("reward_std".to_owned(), alarm)].into());
        let mut at = |value: f64| watched.ring(&vec![("reward_std".to_owned(), value)]).map(|ring| ring.stops);
        assert_eq!([0.05, 0.2, 0.05, 0.04, 0.03].map(&mut at), [None, None, None, Some(true), None]);
        assert_eq!(at(f64::NAN), None);
    }
}
