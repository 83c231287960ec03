//! Versions of the code in the keys of stages: which parts there are in this build, and which of them a kind uses.
//!
//! `build/parts.rs` says which files make a part, `code.txt` which version it has and what the digest of its sources was
//! when somebody last thought about it. `build.rs` takes the digests anew. Where the two agree, the version is in the key;
//! where they do not, the digest is: whoever edits a reward and runs at once gets new numbers.

use crate::judging::reward;
use opdflow_api::{Code, Ports};
use serde_json::Value;

/// A part of the code, as this program was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodePart {
    /// Its name, or that of the kind whose own files it is.
    pub name: &'static str,
    /// The committed version; 0 if the table does not have the part.
    pub version: u32,
    /// The digest of its sources when that version was committed.
    pub committed: &'static str,
    /// The digest of the sources of this build; nothing if they were not there, as in a package.
    pub built: Option<&'static str>,
}

include!(concat!(env!("OUT_DIR"), "/parts.rs"));

impl CodePart {
    /// The digest of the sources, if they are not those of the committed version.
    #[must_use]
    pub fn edited(&self) -> Option<&'static str> {
        self.built.filter(|built| *built != self.committed)
    }

    /// What is in a key: the version, or the digest of other sources.
    #[must_use]
    pub fn value(&self) -> Value {
        self.edited().map_or_else(|| self.version.into(), |digest| format!("edited {digest}").into())
    }
}

/// All parts of this build.
#[must_use]
pub fn parts() -> &'static [CodePart] {
    PARTS
}

/// The versions of these parts. The own files of `kind` are among them only where they were edited: its `semantics` stands
/// for them.
#[must_use]
pub fn of(kind: &str, lists: &[&[&str]]) -> Code {
    let wanted = |part: &&CodePart| {
        (part.name == kind && part.edited().is_some())
            || part.name == "unlisted"
            || lists.iter().any(|list| list.contains(&part.name))
    };
    PARTS.iter().filter(wanted).map(|part| (part.name.to_owned(), part.value())).collect()
}

/// What every stage uses that has a model: loading it, text, sampling, decoding.
pub const MODEL: &[&str] = &[
    "models.layers",
    "models.lora",
    "models.random",
    "models.text",
    "models.vae",
    "models.transformer",
    "models.pipeline",
    "models.sampling",
    "training.rollouts",
    "stages.pipeline",
    "prompts.read",
    "miniature.subjects",
];

/// What training adds.
pub const TRAINING: &[&str] =
    &["training.common", "stages.training", "stages.files", "rewards.scoring", "stages.tables"];

/// What updates of an adapter from micro-batches add.
pub const UPDATES: &[&str] = &["training.updates"];

/// What judging adds, whatever the reward.
const JUDGING: &[&str] = &["judging", "rewards.scoring", "stages.tables"];

/// What judging by these rewards adds. One of a network is known by the port that it is connected to.
#[must_use]
pub fn judging<'a>(rewards: impl IntoIterator<Item = &'a str>, ports: &Ports) -> Vec<&'static str> {
    let mut parts = JUDGING.to_vec();
    for name in rewards {
        let name = reward::whole_of(name);
        if reward::rule(name).is_some() {
            parts.extend(named("rewards.", name));
        }
        if ports.contains(&format!("reward_models.{name}")) {
            parts.extend(reward_model(name));
        }
    }
    parts
}

/// The part of this reward; of one that has none yet all of them, rather than nothing.
fn named(of: &str, name: &str) -> Vec<&'static str> {
    let all: Vec<&'static str> = PARTS.iter().map(|p| p.name).filter(|p| p.starts_with(of)).collect();
    let own: Vec<&'static str> = all.iter().copied().filter(|p| p.strip_prefix(of) == Some(name)).collect();
    if own.is_empty() { all } else { own }
}

/// The parts of a network that judges.
pub fn reward_model(name: &str) -> Vec<&'static str> {
    if reward::may_be_served(name) {
        return vec!["served"];
    }
    let mut parts = named("reward_models.", name);
    // ImageReward has networks of its own and NIQE has none, text is read by those of a runtime, the others have CLIP's.
    let shared: &[&str] = match name {
        "ocr" => &["rewards.ocr"],
        "imagereward" | "niqe" => &["reward_models.common"],
        _ => &["reward_models.common", "reward_models.clip"],
    };
    parts.extend(shared);
    parts
}

/// The rewards that judge the connected sets of prompts: those that are wanted for a set, or the one of its own name.
pub fn wanted<'a>(wanted: &'a crate::judging::wanted::Wanted, ports: &'a Ports) -> Vec<&'a str> {
    let sets = ports.iter().filter_map(|p| p.strip_prefix("prompts."));
    sets.flat_map(|set| match wanted.get(set) {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => vec![set],
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(built: Option<&'static str>) -> CodePart {
        CodePart { name: "rewards.ocr", version: 3, committed: "aaaa", built }
    }

    #[test]
    fn edited_sources_are_in_the_key_by_their_digest() {
        assert_eq!(part(Some("aaaa")).value(), 3);
        assert_eq!(part(Some("bbbb")).value(), "edited bbbb");
        // A package without sources has what was committed.
        assert_eq!(part(None).value(), 3);
    }

    #[test]
    fn names_of_parts_are_names_of_parts() {
        let ports: Ports =
            ["geneval", "pickscore", "imagereward", "hpsv2", "clipscore", "aesthetic", "niqe", "ocr", "judge"]
                .map(|c| (format!("reward_models.{c}"), format!("{c}.reward_model")))
                .into_iter()
                .collect();
        let names =
            ["geneval", "ocr", "looks", "pickscore", "imagereward", "hpsv2", "clipscore", "aesthetic", "niqe", "judge"];
        let all = [MODEL, TRAINING, &judging(names, &ports)].concat();
        for name in &all {
            assert!(PARTS.iter().any(|p| p.name == *name), "no part is named {name}");
        }
        for part in PARTS.iter().filter(|p| p.name.starts_with("rewards.") || p.name.starts_with("reward_models.")) {
            assert!(all.contains(&part.name), "no reward uses {}", part.name);
        }
    }

    #[test]
    fn a_reward_brings_its_own_code_alone() {
        let none = Ports::default();
        assert!(judging(["ocr.exact"], &none).contains(&"rewards.ocr"));
        assert!(!judging(["ocr"], &none).iter().any(|p| p.contains("geneval") || p.starts_with("reward_models")));
        assert!(!judging(["geneval"], &none).iter().any(|p| p.starts_with("reward_models")));
        let ports = Ports::from_iter([("reward_models.geneval".to_owned(), "detector.reward_model".to_owned())]);
        assert!(judging(["geneval.strict"], &ports).contains(&"reward_models.geneval"));
    }
}
