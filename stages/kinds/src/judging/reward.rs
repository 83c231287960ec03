//! Rewards by name, as recipes spell them: `reward: {ocr: 1.0, looks: 0.5}`.

use crate::judging::recogniser;
use crate::judging::reward_models::HELD_OUT;
use opdflow_api::{Asset, ParamFault, Ports};
use std::collections::{BTreeMap, BTreeSet};

/// Rewards with their weights.
pub type Weights = BTreeMap<String, f64>;

/// A reward that is a rule of the program, and asks nothing of the user.
pub struct Rule {
    /// As recipes name it. Its code is the part `rewards.NAME` (`stages/kinds/build/parts.rs`).
    pub name: &'static str,
    /// Its measures, each a reward of its own under `reward.measure`.
    measures: &'static [&'static str],
    /// Columns of scores that are no reward of an image, under the same form of name: of GenEval the mean over its tasks, which is the
    /// official summary, and that over the images of each task.
    summaries: &'static [&'static str],
    /// The measure that tables show under the reward's name, where it is not its value.
    shown: Option<&'static str>,
    /// What it reads from outside the store.
    reads: Option<Reads>,
}

/// Files that a rule reads with.
struct Reads {
    /// What is wrong with them on this machine, and the way out.
    fault: fn() -> Option<(String, String)>,
    /// Their pinned content, for keys.
    assets: fn() -> Vec<Asset>,
}

/// All rules, by name.
pub static RULES: [Rule; 3] = [
    // Training uses GenEval's partial score, the benchmark its accuracy.
    Rule {
        name: "geneval",
        measures: &["correct", "strict", "partial", "released"],
        summaries: &["tasks", "single_object", "two_object", "counting", "colors", "position", "color_attr"],
        shown: Some("correct"),
        reads: None,
    },
    Rule {
        name: "looks",
        measures: &["colourfulness", "contrast", "smoothness"],
        summaries: &[],
        shown: None,
        reads: None,
    },
    Rule {
        name: "ocr",
        measures: &["exact"],
        summaries: &[],
        shown: None,
        reads: Some(Reads { fault: || recogniser::fault(&recogniser::assets()), assets: recogniser::pinned }),
    },
];

/// The rule of this name.
#[must_use]
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// Whether a recipe may name this as a whole reward.
#[must_use]
pub fn is_whole(name: &str) -> bool {
    rule(name).is_some() || opdflow_spec::reward_models::named(name).is_some()
}

/// Whether a recipe may name this reward, or this measure of one.
#[must_use]
pub fn known(name: &str) -> bool {
    let measured = |reward_model: &str, measure: &str| {
        opdflow_spec::reward_models::named(reward_model).is_some_and(|c| c.measures.contains(&measure))
    };
    let ruled = |name: &str, measure: &str| rule(name).is_some_and(|rule| rule.measures.contains(&measure));
    is_whole(name) || name.split_once('.').is_some_and(|(whole, m)| ruled(whole, m) || measured(whole, m))
}

/// Whether a reward of this name can only be one that a server gives.
#[must_use]
pub fn may_be_served(name: &str) -> bool {
    opdflow_spec::served::is_name(name) && !is_whole(name) && name != HELD_OUT
}

/// Whether a recipe may name this as a whole reward if it is connected: what is not of the program may be one that a server gives.
#[must_use]
pub fn may_be_whole(name: &str) -> bool {
    is_whole(name) || may_be_served(name)
}

/// The same of a reward or a measure.
#[must_use]
pub fn may_be(name: &str) -> bool {
    let (whole, measure) = name.split_once('.').unwrap_or((name, "reward"));
    known(name) || may_be_served(whole) && opdflow_spec::served::is_name(measure)
}

/// Whether scores may have a column of this name.
#[must_use]
pub fn is_column(name: &str) -> bool {
    may_be(name) || name.split_once('.').is_some_and(|(whole, c)| rule(whole).is_some_and(|r| r.summaries.contains(&c)))
}

/// The reward that a column or a measure belongs to: `geneval.strict` is one of `geneval`'s.
#[must_use]
pub fn whole_of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The whole rewards of these weights, each as often as it is asked: a measure asks the whole.
pub fn wholes_of(weights: &Weights) -> impl Iterator<Item = &str> {
    weights.keys().map(|name| whole_of(name))
}

/// What a recipe may name as a whole reward, in words.
#[must_use]
pub fn wholes() -> String {
    let reward_models = opdflow_spec::reward_models::REWARD_MODELS.iter().map(|c| c.name).filter(|c| rule(c).is_none());
    let all: Vec<&str> = RULES.iter().map(|rule| rule.name).chain(reward_models).collect();
    format!("there are {}", all.join(", "))
}

/// What a recipe may name, in words.
#[must_use]
pub fn offered() -> String {
    let of = |rule: &Rule| rule.measures.iter().map(|m| format!("{}.{m}", rule.name)).collect::<Vec<_>>();
    let measures: Vec<String> = RULES.iter().flat_map(of).collect();
    format!("{}, and their measures, such as {}", wholes(), measures.join(", "))
}

/// What is wrong with the names or weights below the parameter `param`.
#[must_use]
pub fn check(param: &str, weights: &Weights) -> Vec<ParamFault> {
    if weights.is_empty() {
        return vec![ParamFault::new(param, "no reward is given").help(offered())];
    }
    let mut faults = Vec::new();
    for name in weights.keys() {
        if !may_be(name) {
            faults.push(
                ParamFault::new(format!("{param}.{name}"), format!("no reward is named `{name}`")).help(offered()),
            );
        }
    }
    faults
}

/// The fault of a parameter at `path` that names a reward whose network is not connected.
#[must_use]
pub fn unwired(path: String, name: &str, ports: &Ports) -> Option<ParamFault> {
    let (asked, name) = (name, whole_of(name));
    if rule(name).is_some() || ports.contains(&format!("reward_models.{name}")) {
        return None;
    }
    if !is_whole(name) {
        let served: Vec<String> = ports
            .names("reward_models")
            .into_iter()
            .filter(|name| may_be_served(name))
            .map(|n| format!("`{n}`"))
            .collect();
        let help = match &served[..] {
            [] => format!(
                "{}; one that a server gives is connected by a stage `uses: served_reward`: `reward_models: {{{name}: STAGE.reward_model}}`",
                offered()
            ),
            served => format!("of servers there is {} here; of the program {}", served.join(" and "), offered()),
        };
        return Some(ParamFault::new(path, format!("no reward is named `{asked}`")).help(help));
    }
    let what = format!("`{name}` is judged by a network, and none is connected");
    let help = format!(
        "add a stage `uses: reward_model` with `reward: {name}`, and connect it: `reward_models: {{{name}: STAGE.reward_model}}`"
    );
    Some(ParamFault::new(path, what).help(help))
}

/// The fault of a parameter at `path` that calls for the reward `name`, if its files are not on this machine.
#[must_use]
pub fn lacks(path: &str, name: &str) -> Option<ParamFault> {
    let (message, help) = (rule(whole_of(name))?.reads.as_ref()?.fault)()?;
    Some(ParamFault::new(path, message).help(help))
}

/// Files from outside the store that these rewards read, each once. Their content is pinned, so the digest is that of the pin.
#[must_use]
pub fn assets<'a>(names: impl Iterator<Item = &'a String>) -> Vec<Asset> {
    let names: BTreeSet<&str> = names.map(|name| whole_of(name)).collect();
    read(names.into_iter().filter_map(rule))
}

/// The same of all rules, where it is not known yet which judge.
#[must_use]
pub fn all_assets() -> Vec<Asset> {
    read(RULES.iter())
}

/// What these rules read.
fn read(rules: impl Iterator<Item = &'static Rule>) -> Vec<Asset> {
    rules.filter_map(|rule| rule.reads.as_ref()).flat_map(|reads| (reads.assets)()).collect()
}

/// The columns that scores by a whole reward have: its headline, its value and its measures.
#[must_use]
pub fn columns(name: &str) -> Vec<String> {
    let own = rule(name).into_iter().flat_map(|rule| rule.measures.iter().chain(rule.summaries).copied());
    // A reward model that takes the place of a reward of the program has its measures.
    let reward_models = opdflow_spec::reward_models::named(name).into_iter().flat_map(|c| c.measures.iter().copied());
    let measures: BTreeSet<&str> = own.chain(reward_models).chain(["reward"]).collect();
    std::iter::once(name.to_owned()).chain(measures.into_iter().map(|m| format!("{name}.{m}"))).collect()
}

/// The names of the measures of a whole reward.
#[must_use]
pub fn measures(name: &str) -> Vec<String> {
    let own = rule(name).into_iter().flat_map(|rule| rule.measures.iter());
    let network = opdflow_spec::reward_models::named(name).into_iter().flat_map(|c| c.measures.iter());
    own.chain(network).map(|m| (*m).to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The measure that tables show under a reward's name, where it is not its value.
#[must_use]
pub fn shown(name: &str) -> Option<&'static str> {
    match rule(name) {
        Some(rule) => rule.shown,
        None => opdflow_spec::reward_models::named(name)?.shown,
    }
}
