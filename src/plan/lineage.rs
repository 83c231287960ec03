//! Where bytes come from: from a digest to the record that made it, to what that stage read, and so on up to what came
//! from outside. It is all in the action records; run logs and recipes may be gone.

use crate::recipe::StageSpec;
use opdflow_api::OfSeed;
use opdflow_cache::{ActionRecord, Digest, Store};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// All records of a store, by what they made.
pub struct Lineage<'s> {
    pub(super) store: &'s Store,
    pub(super) records: BTreeMap<Digest, ActionRecord>,
    pub(super) makers: BTreeMap<Digest, Vec<(Digest, String)>>,
}

/// An output that some bytes are, or are a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The key of the record.
    pub key: Digest,
    /// The output.
    pub port: String,
    /// The path inside it, if the output is a folder and the bytes are one of its files or folders.
    pub inside: Option<String>,
}

/// One input of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The port, or `port.name`.
    pub port: String,
    /// What was read.
    pub digest: Digest,
    /// Who made it; nothing if its record is not in the store any more.
    pub from: Option<(Digest, String)>,
}

impl<'s> Lineage<'s> {
    /// Reads the records of a store.
    #[must_use]
    pub fn of(store: &'s Store) -> Self {
        let records: BTreeMap<Digest, ActionRecord> = store.actions().map(|r| (r.key, r)).collect();
        let mut makers: BTreeMap<Digest, Vec<(Digest, String)>> = BTreeMap::new();
        for record in records.values() {
            for (port, output) in &record.outputs {
                makers.entry(output.object.digest).or_default().push((record.key, port.clone()));
            }
        }
        Self { store, records, makers }
    }

    /// The record of a key.
    #[must_use]
    pub fn record(&self, key: &Digest) -> Option<&ActionRecord> {
        self.records.get(key)
    }

    /// What the stage of a record read.
    #[must_use]
    pub fn reads(&self, record: &ActionRecord) -> Vec<Read> {
        inputs(record)
            .map(|(port, digest)| {
                let from = self.maker(&digest, Some(&record.finished));
                Read { port: port.clone(), digest, from }
            })
            .collect()
    }

    /// A record and all records that it stands on, itself first, each once.
    #[must_use]
    pub fn above(&self, key: &Digest) -> Vec<Digest> {
        let (mut found, mut seen, mut open) = (Vec::new(), BTreeSet::new(), vec![*key]);
        while let Some(key) = open.pop() {
            let Some(record) = self.records.get(&key) else { continue };
            if seen.insert(key) {
                found.push(key);
                open.extend(self.reads(record).into_iter().rev().filter_map(|r| r.from.map(|(key, _)| key)));
            }
        }
        found
    }

    /// Who made these bytes. Two stages may have made the same: the newest one that was there `before` is meant, or
    /// else the first of all.
    fn maker(&self, digest: &Digest, before: Option<&str>) -> Option<(Digest, String)> {
        let mut all: Vec<(&str, &(Digest, String))> = self
            .makers
            .get(digest)?
            .iter()
            .filter_map(|m| Some((self.records.get(&m.0)?.finished.as_str(), m)))
            .collect();
        all.sort();
        let earlier = before.and_then(|b| all.iter().rev().find(|(finished, _)| *finished <= b));
        earlier.or(all.first()).map(|(_, maker)| (*maker).clone())
    }
}

/// What the stage of a record read: by port, or `port.name`, the content.
pub fn inputs(record: &ActionRecord) -> impl Iterator<Item = (&String, Digest)> {
    let inputs = record.manifest.get("inputs").and_then(Value::as_object);
    inputs.into_iter().flatten().filter_map(|(port, d)| Some((port, d.as_str()?.parse().ok()?)))
}

/// The inputs that the parameters name beside a text: of a table's `{scores: student, title: OPD student}`, with the
/// text `OPD student`, those named `scores.student`, or `scores.student_seed_1` and so on where it was collected over
/// seeds. Empty if the parameters do not have the text, or name none there.
#[must_use]
pub fn beside(record: &ActionRecord, text: &str, reads: &[Read]) -> BTreeSet<String> {
    let params = record.manifest.get("params").unwrap_or(&Value::Null);
    let Some(around) = around(params, text) else { return BTreeSet::new() };
    let mut words = BTreeSet::new();
    texts(around, &mut words);
    let seeds = of_seeds(record);
    let of_seed = |port: &str| seeds.get(port).is_some_and(|of| words.contains(of.name.as_str()));
    let named = |r: &&Read| r.port.split_once('.').is_some_and(|(_, name)| words.contains(name) || of_seed(&r.port));
    reads.iter().filter(named).map(|r| r.port.clone()).collect()
}

/// Which of a stage's inputs are one of several seeds, as a record notes it.
const OF_SEED: &str = "of_seed";

/// What a record notes of the inputs of a stage, beside what its manifest has.
#[must_use]
pub fn note(spec: &StageSpec) -> Option<(String, String)> {
    let text = serde_json::to_string(&spec.of_seed).ok().filter(|_| !spec.of_seed.is_empty())?;
    Some((OF_SEED.to_owned(), text))
}

fn of_seeds(record: &ActionRecord) -> BTreeMap<String, OfSeed> {
    record.note.get(OF_SEED).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The innermost map that holds the text as a value.
fn around<'v>(value: &'v Value, text: &str) -> Option<&'v Value> {
    let inner: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => return None,
    };
    let deeper = inner.iter().find_map(|v| around(v, text));
    deeper.or_else(|| (value.is_object() && inner.iter().any(|v| v.as_str() == Some(text))).then_some(value))
}

fn texts<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::String(text) => {
            found.insert(text);
        }
        Value::Array(items) => items.iter().for_each(|v| texts(v, found)),
        Value::Object(map) => map.values().for_each(|v| texts(v, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_s_title_leads_to_its_inputs() {
        let digest = Digest::of(b"x");
        let record = ActionRecord {
            format: 1,
            key: digest,
            lineage: digest,
            manifest: json!({"params": {"title": "A table", "rows": [
                {"scores": "base", "title": "the base"},
                {"scores": "opd", "title": "OPD student", "seconds": [["ocr"], ["opd"]]},
            ]}}),
            outputs: BTreeMap::new(),
            seconds: 0.0,
            finished: String::new(),
            note: [(OF_SEED.to_owned(), json!({"timings.ocr_seed_7": {"name": "ocr", "seed": 7}}).to_string())].into(),
        };
        let read = |port: &str| Read { port: port.to_owned(), digest, from: None };
        let reads: Vec<Read> =
            ["scores.base", "scores.opd", "timings.ocr_seed_7", "timings.ocr_teacher_seed_7", "timings.opd", "opd"]
                .map(read)
                .into();
        let found = |text: &str| beside(&record, text, &reads).into_iter().collect::<Vec<_>>();
        assert_eq!(found("OPD student"), ["scores.opd", "timings.ocr_seed_7", "timings.opd"]);
        assert_eq!(found("the base"), ["scores.base"]);
        assert!(found("nobody").is_empty());
        // The title of the whole stands beside everything, which narrows nothing that it does not name.
        assert_eq!(found("A table").len(), 4);
    }
}
