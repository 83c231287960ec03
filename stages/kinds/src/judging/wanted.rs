//! The rewards that judge each set of prompts, as parameters name them.

use crate::judging::served::Counted;
use crate::judging::{reward, reward_models, served};
use crate::prompt::prompt_set;
use opdflow_api::{Asset, Foreseen, ParamFault, Ports};
use std::collections::BTreeMap;

/// Names of rewards by set of prompts.
pub type Wanted = BTreeMap<String, Vec<String>>;

/// What is wrong with the wanted rewards, before anything runs.
pub fn check(wanted: &Wanted) -> Vec<ParamFault> {
    let mut faults = Vec::new();
    for (set, names) in wanted {
        for (i, name) in names.iter().enumerate().filter(|(_, n)| !reward::may_be_whole(n)) {
            let fault = ParamFault::new(format!("rewards.{set}[{i}]"), format!("no reward is named `{name}`"));
            faults.push(fault.help(reward::wholes()));
        }
    }
    faults
}

/// Sets of prompts that no reward judges, and rewards whose networks are not connected.
pub fn wired(wanted: &Wanted, ports: &Ports) -> Vec<ParamFault> {
    let mut faults = Vec::new();
    for set in ports.iter().filter_map(|p| p.strip_prefix("prompts.")) {
        match wanted.get(set) {
            Some(names) => faults.extend(
                names.iter().enumerate().filter_map(|(i, n)| reward::unwired(format!("rewards.{set}[{i}]"), n, ports)),
            ),
            None if reward::is_whole(set) || ports.contains(&format!("reward_models.{set}")) => {
                faults.extend(reward::unwired(String::new(), set, ports))
            }
            None => faults.push(
                ParamFault::new("", format!("no reward is named like the set of prompts `{set}`"))
                    .help(format!("say which rewards judge it: `rewards: {{{set}: [...]}}`")),
            ),
        }
    }
    let absent = |set: &&String| !ports.contains(&format!("prompts.{set}"));
    faults.extend(wanted.keys().filter(absent).map(|set| {
        ParamFault::new(format!("rewards.{set}"), format!("no prompts are connected as `prompts.{set}`"))
            .help("connect them, or take the entry out")
    }));
    faults
}

/// The rewards that judge a set.
fn of_set(wanted: &Wanted, set: &str) -> Vec<String> {
    wanted.get(set).cloned().unwrap_or_else(|| vec![set.to_owned()])
}

/// Sets that their rewards cannot judge, and reward models that are not what they are connected as.
pub fn unfit(wanted: &Wanted, inputs: &Foreseen) -> Vec<ParamFault> {
    let mut faults = reward_models::misnamed(inputs);
    for port in inputs.keys() {
        let Some(set) = port.strip_prefix("prompts.") else { continue };
        for (i, name) in of_set(wanted, set).iter().enumerate() {
            let path = wanted.contains_key(set).then(|| format!("rewards.{set}[{i}]"));
            faults.extend(prompt_set::unfit(inputs, port, &[name], path.as_deref()));
        }
    }
    faults
}

/// The columns that scores of the connected sets will have, by set, under an output's name.
pub fn foresee(output: &str, wanted: &Wanted, inputs: &Foreseen) -> Foreseen {
    let sets = inputs.keys().filter_map(|port| port.strip_prefix("prompts."));
    let measured = |r: &String| {
        let served = reward_models::served(inputs, reward_models::REWARD_MODELS.name, r);
        let measures = served.into_iter().flat_map(|known| known.measures);
        reward::columns(r)
            .into_iter()
            .chain(measures.map(|m| format!("{r}.{m}")).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    let columns = |set: &str| of_set(wanted, set).iter().flat_map(measured).collect();
    let known: Columns = sets.map(|set| (set.to_owned(), columns(set))).collect();
    serde_json::to_value(known).ok().map(|known| (output.to_owned(), known)).into_iter().collect()
}

/// Columns of scores by set, as they are foreseen.
pub type Columns = BTreeMap<String, Vec<String>>;

/// What this machine lacks to judge the connected sets.
pub fn lacks(wanted: &Wanted, ports: &Ports) -> Vec<ParamFault> {
    let sets = ports.iter().filter_map(|p| p.strip_prefix("prompts."));
    let faults = sets.flat_map(|set| match wanted.get(set) {
        Some(names) => names.iter().filter_map(|n| reward::lacks(&format!("rewards.{set}"), n)).collect(),
        None => Vec::from_iter(reward::lacks("", set)),
    });
    // One is enough: the same files are missing for all.
    faults.take(1).chain(served::lacks(ports)).collect()
}

/// What judging the connected sets asks of servers: `images` are those of a set with so many prompts, `times` how often it is judged.
pub fn count(
    counted: &mut Counted,
    wanted: &Wanted,
    inputs: &Foreseen,
    images: impl Fn(&str, u64) -> u64,
    times: Option<u64>,
) {
    for (port, known) in inputs {
        let Some(set) = port.strip_prefix("prompts.") else { continue };
        for name in of_set(wanted, set) {
            let on = reward_models::REWARD_MODELS.name;
            let asked = served::about_each(inputs, on, &name, known).map(|each| images(set, each));
            counted.judges(inputs, on, &name, asked, times);
        }
    }
}

/// What judging reads from outside the store. Which sets there are is known from the inputs, not before: the files of
/// all rules count always.
pub fn assets() -> Vec<Asset> {
    reward::all_assets()
}
