//! Images on the way of a training: how often, and of how many prompts.

use crate::judging::reward::{self, RULES};
use crate::judging::reward_models::{HELD_OUT, on_port};
use opdflow_api::port::Input;
use opdflow_api::{Foreseen, ParamFault, Ports};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Images of the same few prompts with the same noise, in the folder of the run while it trains. They are no output, and nothing
/// hangs on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Samples {
    /// Rounds between them; a tenth of the training's rounds if absent.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub every: Option<u64>,
    /// Prompts, taken in turn from the tasks; 0 for no images.
    #[schemars(range(min = 0, max = 64))]
    pub prompts: usize,
    /// Rewards of the program, `geneval`, `looks` or `ocr`, whose scores stand beside the images of prompts that they apply to.
    /// Networks are connected as `held_out`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewards: Vec<String>,
}

/// The port of networks that only look at images on the way.
pub const JUDGES: Input = Input::any(
    HELD_OUT,
    &["reward_model"],
    "reward models whose scores stand beside images on the way, each under the name of its reward: nothing is trained or chosen by them",
);

impl Default for Samples {
    fn default() -> Self {
        Self { every: None, prompts: 4, rewards: Vec::new() }
    }
}

impl Samples {
    /// Whether nobody has said anything of them.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with the names of rewards.
    #[must_use]
    pub fn check(&self) -> Vec<ParamFault> {
        let unknown = self.rewards.iter().enumerate().filter(|(_, name)| reward::rule(name).is_none());
        let fault = |(i, name): (usize, &String)| {
            let rules: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
            let help = format!(
                "there are {}; a network is connected: `held_out: {{NAME: STAGE.reward_model}}`",
                rules.join(", ")
            );
            ParamFault::new(format!("samples.rewards[{i}]"), format!("`{name}` is no reward of the program")).help(help)
        };
        let twice = |i: &usize| self.rewards[..*i].contains(&self.rewards[*i]);
        let twice = (0..self.rewards.len()).filter(twice).map(|i| {
            let what = format!("`{}` is there twice", self.rewards[i]);
            ParamFault::new(format!("samples.rewards[{i}]"), what).help("name it once")
        });
        unknown.map(fault).chain(twice).collect()
    }

    /// What is connected to no purpose.
    #[must_use]
    pub fn wired(&self, ports: &Ports) -> Vec<ParamFault> {
        let idle = if self.prompts == 0 { ports.names(HELD_OUT) } else { Vec::new() };
        let fault = |name: String| {
            let what = "it looks at images on the way, and there are none, for `samples.prompts` is 0";
            ParamFault::of_port(format!("{HELD_OUT}.{name}"), what).help("raise it, or take this out")
        };
        idle.into_iter().map(fault).collect()
    }

    /// What is connected and cannot be asked.
    #[must_use]
    pub fn unfit(inputs: &Foreseen) -> Vec<ParamFault> {
        let served = on_port(inputs, HELD_OUT).filter(|(_, known)| known.served.is_some());
        let fault = |name: &str| {
            let what = "no server is asked about images on the way: they would be requests that `plan` does not count";
            ParamFault::of_port(format!("{HELD_OUT}.{name}"), what)
                .help("have it judge in `evaluate` or `score_candidates`")
        };
        served.map(|(name, _)| fault(name)).collect()
    }

    /// What this machine lacks for the rewards that are named.
    #[must_use]
    pub fn lacks(&self) -> Vec<ParamFault> {
        self.rewards.iter().find_map(|name| reward::lacks("samples.rewards", name)).into_iter().collect()
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
        let of = |prompts| Samples { prompts, ..Samples::default() };
        assert_eq!(of(4).picked(&[10]), [(0, 0), (0, 1), (0, 2), (0, 3)]);
        assert_eq!(of(4).picked(&[1, 9, 2]), [(0, 0), (1, 0), (2, 0), (1, 1)]);
        assert!(of(0).picked(&[3]).is_empty() && of(4).picked(&[]).is_empty());
        assert_eq!(of(9).picked(&[1, 1]).len(), 2);
    }

    #[test]
    fn what_looks_on_is_a_rule_by_name_or_a_network_by_its_port() {
        let of = |rewards: &[&str]| Samples {
            rewards: rewards.iter().map(|r| (*r).to_owned()).collect(),
            ..Samples::default()
        };
        assert!(of(&["geneval", "ocr"]).check().is_empty());
        assert_eq!(of(&["ocr", "ocr"]).check().len(), 1);
        let faults = of(&["ocr", "pickscore"]).check();
        assert_eq!((faults.len(), faults[0].path.as_str()), (1, "samples.rewards[1]"));
        assert!(faults[0].help.as_ref().unwrap().contains("held_out: {NAME"), "{faults:?}");
        // Where no images are made nothing can be scored.
        let ports: Ports = [("held_out.pickscore".to_owned(), "judge.reward_model".to_owned())].into_iter().collect();
        assert!(of(&[]).wired(&ports).is_empty());
        assert_eq!(Samples { prompts: 0, ..of(&[]) }.wired(&ports).len(), 1);
        // A server's answers may cost something.
        let asked = serde_json::json!({"reward": "judge", "served": {"measures": [], "each": 1}});
        let inputs = |known| Foreseen::from([("held_out.judge".to_owned(), known)]);
        assert_eq!(Samples::unfit(&inputs(asked)).len(), 1);
        assert!(Samples::unfit(&inputs(serde_json::json!({"reward": "judge"}))).is_empty());
    }

    #[test]
    fn a_tenth_of_the_rounds_lies_between_them() {
        assert_eq!([1, 9, 200, 205].map(|rounds| Samples::default().every(rounds)), [1, 1, 20, 20]);
        assert_eq!(Samples { every: Some(7), ..Samples::default() }.every(200), 7);
    }
}
