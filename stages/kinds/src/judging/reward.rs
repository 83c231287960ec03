//! Rewards by name, as recipes spell them: `reward: {ocr: 1.0, looks: 0.5}`.

use crate::judging::recogniser;
use opdflow_api::cache::Digest;
use opdflow_api::{Asset, ParamFault, Ports};
use opdflow_rewards::ocr;
use std::collections::{BTreeMap, BTreeSet};

/// Rewards with their weights.
pub type Weights = BTreeMap<String, f64>;

/// The rewards that need no files of the user's.
pub const NAMES: [&str; 3] = ["geneval", "looks", "ocr"];

/// Their measures, each a reward of its own under `reward.measure`.
const MEASURES: [&str; 7] = [
    "geneval.correct",
    "geneval.strict",
    "geneval.partial",
    "looks.colourfulness",
    "looks.contrast",
    "looks.smoothness",
    "ocr.exact",
];

/// Whether a recipe may name this as a whole reward.
#[must_use]
pub fn is_whole(name: &str) -> bool {
    NAMES.contains(&name) || opdflow_spec::reward_models::named(name).is_some()
}

/// Whether a recipe may name this reward, or this measure of one.
#[must_use]
pub fn known(name: &str) -> bool {
    let measured = |reward_model: &str, measure: &str| {
        opdflow_spec::reward_models::named(reward_model).is_some_and(|c| c.measures.contains(&measure))
    };
    is_whole(name) || MEASURES.contains(&name) || name.split_once('.').is_some_and(|(c, m)| measured(c, m))
}

/// The reward that a column or a measure belongs to: `geneval.strict` is one of `geneval`'s.
#[must_use]
pub fn whole_of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// What a recipe may name as a whole reward, in words.
#[must_use]
pub fn wholes() -> String {
    let reward_models =
        opdflow_spec::reward_models::REWARD_MODELS.iter().map(|c| c.name).filter(|c| !NAMES.contains(c));
    let all: Vec<&str> = NAMES.into_iter().chain(reward_models).collect();
    format!("there are {}", all.join(", "))
}

/// What a recipe may name, in words.
#[must_use]
pub fn offered() -> String {
    format!("{}, and their measures, such as {}", wholes(), MEASURES.join(", "))
}

/// What is wrong with the names or weights below the parameter `param`.
#[must_use]
pub fn check(param: &str, weights: &Weights) -> Vec<ParamFault> {
    if weights.is_empty() {
        return vec![ParamFault::new(param, "no reward is given").help(offered())];
    }
    let mut faults = Vec::new();
    for name in weights.keys() {
        if !known(name) {
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
    let name = whole_of(name);
    if NAMES.contains(&name) || ports.contains(&format!("reward_models.{name}")) {
        return None;
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
    if whole_of(name) != "ocr" {
        return None;
    }
    let (message, help) = recogniser::fault(&recogniser::assets())?;
    Some(ParamFault::new(path, message).help(help))
}

/// Files from outside the store that these rewards read. Their content is pinned, so the digest is that of the pin.
#[must_use]
pub fn assets<'a>(names: impl Iterator<Item = &'a String>) -> Vec<Asset> {
    if names.into_iter().any(|n| n.starts_with("ocr")) {
        let pin = |name: &str, sha256: &str| Asset { name: name.to_owned(), digest: Digest::of(sha256.as_bytes()) };
        let mut assets = vec![pin("ppocr.det", ocr::DET_SHA256), pin("ppocr.rec", ocr::REC_SHA256)];
        // The runtime that is fetched is as good as part of the program. Another one may give other scores.
        assets.extend(recogniser::own_runtime());
        assets
    } else {
        Vec::new()
    }
}

/// The columns that scores by a whole reward have: its headline, its value and its measures.
#[must_use]
pub fn columns(name: &str) -> Vec<String> {
    let own = MEASURES.iter().filter_map(|m| m.strip_prefix(name)?.strip_prefix('.'));
    // A reward model that takes the place of a reward of the program has its measures.
    let reward_models = opdflow_spec::reward_models::named(name).into_iter().flat_map(|c| c.measures.iter().copied());
    let measures: BTreeSet<&str> = own.chain(reward_models).chain(["reward"]).collect();
    std::iter::once(name.to_owned()).chain(measures.into_iter().map(|m| format!("{name}.{m}"))).collect()
}

/// The measure that tables show under a reward's name, where it is not its value.
#[must_use]
pub fn shown(name: &str) -> Option<&'static str> {
    // Training uses GenEval's partial score, the benchmark its accuracy.
    if name == "geneval" { Some("correct") } else { opdflow_spec::reward_models::named(name)?.shown }
}
