//! What the numbers of a training are doubted for, before a run: those with which nothing is ever learned.

use opdflow_api::ParamFault;
use opdflow_api::warning::{Doubt, NO_PACE, NO_WEIGHT};
use opdflow_spec::optim::{AdamWConfig, EmaConfig};
use opdflow_spec::train::LrSchedule;
use std::collections::BTreeMap;

/// Optimizer, schedule and average of a training of `rounds` rounds with `updates` steps in each. Of a number of rounds that is
/// not known nothing is doubted.
pub fn doubts(
    optimizer: &AdamWConfig,
    lr_schedule: &LrSchedule,
    ema: &EmaConfig,
    rounds: Option<u64>,
    updates: u64,
) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    if optimizer.lr == 0.0 {
        let what = "the learning rate is 0: nothing is ever learned";
        doubts.push(Doubt::new(NO_PACE, "optimizer.lr", what.to_owned(), "raise `lr`"));
    }
    doubts.extend(of_schedule("", lr_schedule, rounds));
    doubts.extend(of_average("", ema, rounds.map(|rounds| rounds.saturating_mul(updates))));
    doubts
}

/// A schedule of the learning rate over `rounds` rounds, of the parameters below `prefix`.
pub fn of_schedule(prefix: &str, lr_schedule: &LrSchedule, rounds: Option<u64>) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let mut say = |name: &str, what: String, help| {
        doubts.push(Doubt::new(NO_PACE, format!("{prefix}lr_schedule.{name}"), what, help))
    };
    if let Some(rounds) = rounds.filter(|rounds| lr_schedule.warmup > *rounds) {
        let what = format!("the learning rate never gets to `lr`: it still grows when the {rounds} rounds end");
        say("warmup", what, "a shorter `warmup`, or more rounds");
    }
    if lr_schedule.hold.is_some() != lr_schedule.until.is_some() {
        let (name, other) = if lr_schedule.hold.is_some() { ("hold", "until") } else { ("until", "hold") };
        say(name, format!("the learning rate never falls: `{other}` is not given"), "give both or neither");
    } else if let (Some(hold), Some(until)) = (lr_schedule.hold, lr_schedule.until)
        && until <= hold
    {
        say("until", "the learning rate never falls: `until` is not after `hold`".to_owned(), "raise `until`");
    } else if let Some(what) = rounds.and_then(|rounds| lr_schedule.spent(rounds)) {
        say("until", what, "a later `until`, or fewer rounds");
    }
    doubts
}

/// A running average of the weights over `steps` steps, of the parameters below `prefix`.
pub fn of_average(prefix: &str, ema: &EmaConfig, steps: Option<u64>) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let mut say =
        |name: &str, what: String, help| doubts.push(Doubt::new(NO_PACE, format!("{prefix}ema.{name}"), what, help));
    if let Some(steps) = steps.filter(|steps| ema.every > steps.saturating_add(1)) {
        let what =
            format!("the average that is kept never takes anything in: `every` is {}, of {steps} steps", ema.every);
        say("every", what, "lower `every`");
    }
    if ema.decay >= 1.0 {
        // The first steps count more than the decay says; they end.
        say("decay", "the average that is kept soon takes nothing in".to_owned(), "a `decay` below 1, such as 0.9");
    }
    doubts
}

/// Weights of 0 below the parameter `param`.
pub fn weightless(param: &str, weights: &BTreeMap<String, f64>, what: &str, help: &'static str) -> Vec<Doubt> {
    let none = weights.iter().filter(|(_, w)| **w == 0.0);
    none.map(|(name, _)| {
        Doubt::new(NO_WEIGHT, format!("{param}.{name}"), format!("the {what} `{name}` has weight 0"), help)
    })
    .collect()
}

/// A schedule of the learning rate whose numbers do not go together.
pub fn lr_schedule_fault(what: String) -> ParamFault {
    ParamFault::new("lr_schedule", what).help("give both `hold` and a later `until`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_never_learn() {
        let paths = |lr, lr_schedule: LrSchedule, ema: EmaConfig| -> Vec<String> {
            let optimizer = AdamWConfig { lr, ..Default::default() };
            doubts(&optimizer, &lr_schedule, &ema, Some(10), 2).into_iter().map(|d| d.path).collect()
        };
        let ema = |decay, every| EmaConfig { decay, every, ..EmaConfig::default() };
        assert!(paths(1e-3, LrSchedule { warmup: 10, hold: Some(3), until: Some(9) }, ema(0.9, 20)).is_empty());
        assert_eq!(paths(0.0, LrSchedule::default(), ema(1.0, 22)), ["optimizer.lr", "ema.every", "ema.decay"]);
        let lr_schedule = |warmup, hold, until| LrSchedule { warmup, hold, until };
        assert_eq!(paths(1.0, lr_schedule(11, Some(3), None), ema(0.9, 1)), ["lr_schedule.warmup", "lr_schedule.hold"]);
        assert_eq!(paths(1.0, lr_schedule(0, None, Some(3)), ema(0.9, 1)), ["lr_schedule.until"]);
        assert_eq!(paths(1.0, lr_schedule(0, Some(3), Some(3)), ema(0.9, 1)), ["lr_schedule.until"]);
        assert_eq!(paths(1.0, lr_schedule(0, Some(3), Some(8)), ema(0.9, 1)), ["lr_schedule.until"]);
        let unknown = doubts(&AdamWConfig::default(), &lr_schedule(99, Some(3), Some(8)), &ema(0.9, 99), None, 1);
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
