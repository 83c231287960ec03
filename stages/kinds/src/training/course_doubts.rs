//! What the numbers of a training are doubted for, before a run: those with which nothing is ever learned.

use opdflow_api::ParamFault;
use opdflow_api::warning::{Doubt, NO_PACE, NO_WEIGHT};
use opdflow_spec::optim::{AdamWConfig, EmaConfig};
use opdflow_spec::train::Pace;
use std::collections::BTreeMap;

/// Optimiser, pace and average of a training of `rounds` rounds with `updates` steps in all.
pub fn doubts(optimiser: &AdamWConfig, pace: &Pace, ema: &EmaConfig, rounds: u64, updates: u64) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let mut say = |path: &str, what: String, help| doubts.push(Doubt::new(NO_PACE, path, what, help));
    if optimiser.lr == 0.0 {
        say("optimiser.lr", "the learning rate is 0: nothing is ever learned".to_owned(), "raise `lr`");
    }
    if pace.warmup > rounds {
        let what = format!("the learning rate never gets to `lr`: it still grows when the {rounds} rounds end");
        say("pace.warmup", what, "a shorter `warmup`, or more rounds");
    }
    if pace.hold.is_some() != pace.until.is_some() {
        let (path, other) = if pace.hold.is_some() { ("pace.hold", "until") } else { ("pace.until", "hold") };
        say(path, format!("the learning rate never falls: `{other}` is not given"), "give both or neither");
    } else if let (Some(hold), Some(until)) = (pace.hold, pace.until)
        && until <= hold
    {
        say("pace.until", "the learning rate never falls: `until` is not after `hold`".to_owned(), "raise `until`");
    }
    if ema.every > updates {
        let what =
            format!("the average that is kept never takes anything in: `every` is {}, of {updates} steps", ema.every);
        say("ema.every", what, "lower `every`");
    }
    if ema.decay >= 1.0 {
        // The first steps count more than the decay says; they end.
        say("ema.decay", "the average that is kept soon takes nothing in".to_owned(), "a `decay` below 1, such as 0.9");
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
pub fn pace_fault(what: String) -> ParamFault {
    ParamFault::new("pace", what).help("give both `hold` and a later `until`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_never_learn() {
        let paths = |lr, pace: Pace, ema: EmaConfig| -> Vec<String> {
            let optimiser = AdamWConfig { lr, ..Default::default() };
            doubts(&optimiser, &pace, &ema, 10, 20).into_iter().map(|d| d.path).collect()
        };
        let ema = |decay, every| EmaConfig { decay, every };
        assert!(paths(1e-3, Pace { warmup: 10, hold: Some(3), until: Some(9) }, ema(0.9, 20)).is_empty());
        assert_eq!(paths(0.0, Pace::default(), ema(1.0, 21)), ["optimiser.lr", "ema.every", "ema.decay"]);
        let pace = |warmup, hold, until| Pace { warmup, hold, until };
        assert_eq!(paths(1.0, pace(11, Some(3), None), ema(0.9, 1)), ["pace.warmup", "pace.hold"]);
        assert_eq!(paths(1.0, pace(0, None, Some(3)), ema(0.9, 1)), ["pace.until"]);
        assert_eq!(paths(1.0, pace(0, Some(3), Some(3)), ema(0.9, 1)), ["pace.until"]);
    }
}
