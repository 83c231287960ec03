//! Two runs beside each other: which of their stages are the same, and in what the others differ.

use crate::plan::history::{changes, fields};
use opdflow_api::cache::Digest;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is known of the stages of a run, by name: the key, and the manifest that it is the digest of.
pub type Known = BTreeMap<String, (Option<Digest>, Option<Value>)>;

/// A stage in two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Its name.
    pub stage: String,
    /// How they stand to each other.
    pub found: Found,
}

/// How a stage of one run stands to that of the same name in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// One key: one result.
    Same,
    /// Only the first run has it.
    First,
    /// Only the second run has it.
    Second,
    /// Other keys: each field that differs, with both values.
    Other(Vec<[String; 3]>),
    /// The key of one of them is not known, because it has no result.
    Unknown,
}

/// The stages of both runs: those of the first in its order, then what only the second has.
#[must_use]
pub fn pairs(order: [&[String]; 2], known: [&Known; 2]) -> Vec<Pair> {
    let [first, second] = known;
    let one = |stage: &String| {
        let found = match (first.get(stage), second.get(stage)) {
            (Some((Some(a), _)), Some((Some(b), _))) if a == b => Found::Same,
            (Some((_, Some(a))), Some((_, Some(b)))) => Found::Other(different(a, b)),
            (Some(_), Some(_)) => Found::Unknown,
            (Some(_), None) => Found::First,
            (None, _) => Found::Second,
        };
        Pair { stage: stage.clone(), found }
    };
    let more = order[1].iter().filter(|stage| !first.contains_key(*stage));
    order[0].iter().chain(more).map(one).collect()
}

fn different(a: &Value, b: &Value) -> Vec<[String; 3]> {
    let side = |leaf: Option<&dyn std::fmt::Display>| leaf.map_or_else(|| "(not there)".to_owned(), |l| l.to_string());
    let all = changes(&fields(a), &fields(b));
    all.iter()
        .map(|c| {
            let [old, new] = [&c.old, &c.new].map(|leaf| side(leaf.as_ref().map(|l| l as &dyn std::fmt::Display)));
            [c.path.join("."), old, new]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stage_is_the_same_by_its_key_and_differs_by_its_fields() {
        let digest = |byte: u8| format!("{byte:02x}").repeat(32).parse::<Digest>().unwrap();
        let manifest = |lr: f64| json!({"format": 2, "kind": "k", "semantics": 1, "params": {"lr": lr}, "inputs": {}, "assets": {}, "code": {}});
        let first: Known = [
            ("a".to_owned(), (Some(digest(1)), Some(manifest(0.1)))),
            ("b".to_owned(), (Some(digest(2)), Some(manifest(0.1)))),
            ("c".to_owned(), (None, None)),
            ("old".to_owned(), (Some(digest(3)), None)),
        ]
        .into();
        let second: Known = [
            ("a".to_owned(), (Some(digest(1)), None)),
            ("b".to_owned(), (Some(digest(4)), Some(manifest(0.2)))),
            ("c".to_owned(), (Some(digest(5)), None)),
            ("new".to_owned(), (None, None)),
        ]
        .into();
        let order = [["a", "b", "c", "old"], ["a", "b", "c", "new"]].map(|o| o.map(String::from));
        let found = pairs([&order[0], &order[1]], [&first, &second]);
        let names: Vec<&str> = found.iter().map(|p| p.stage.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "old", "new"]);
        assert_eq!(found[0].found, Found::Same);
        assert_eq!(found[1].found, Found::Other(vec![["params.lr".into(), "0.1".into(), "0.2".into()]]));
        assert_eq!(
            (&found[2].found, &found[3].found, &found[4].found),
            (&Found::Unknown, &Found::First, &Found::Second)
        );
    }
}
