//! What earlier records in the store say: what a kind of stage takes of time and disk, and which record is nearest to a
//! manifest.

use super::Planned;
use super::manifest::{Fields, Leaf, replay};
use opdflow_cache::{ActionRecord, Store};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What stages took of time and disk, from the records of a store.
#[derive(Clone, Debug, Default)]
pub struct History(BTreeMap<String, Typical>);

/// What is usual for a kind. Found once: a plan asks for each of its stages.
#[derive(Clone, Debug)]
struct Typical {
    seconds: f64,
    bytes: u64,
    on_gpu: bool,
    past: Vec<Past>,
    /// Seconds of a step, where the kind counts steps. All stages of a kind count by the same parameter.
    step: OnceLock<Option<f64>>,
}

#[derive(Clone, Debug)]
struct Past {
    seconds: f64,
    bytes: u64,
    gpu: bool,
    params: Value,
}

impl Typical {
    /// None without a record.
    fn of(past: Vec<Past>) -> Option<Self> {
        let seconds = middle(past.iter().map(|p| p.seconds).collect())?;
        let bytes = middle(past.iter().map(|p| p.bytes).collect())?;
        let on_gpu = 2 * past.iter().filter(|p| p.gpu).count() > past.len();
        Some(Self { seconds, bytes, on_gpu, past, step: OnceLock::new() })
    }
}

impl History {
    /// Reads all records.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        let mut by_kind: BTreeMap<String, Vec<Past>> = BTreeMap::new();
        for mut record in store.actions() {
            if let Some(kind) = kind_of(&record).map(ToOwned::to_owned) {
                let params = record.manifest.get_mut("params").map(Value::take).unwrap_or_default();
                let gpu = record.note.get("device").is_some_and(|d| d.starts_with("cuda"));
                let past = Past { seconds: record.seconds, bytes: record.size(), gpu, params };
                by_kind.entry(kind).or_default().push(past);
            }
        }
        Self(by_kind.into_iter().filter_map(|(kind, past)| Some((kind, Typical::of(past)?))).collect())
    }
    /// The middle of what stages of this kind took, if there were any.
    #[must_use]
    pub fn seconds(&self, kind: &str) -> Option<f64> {
        Some(self.0.get(kind)?.seconds)
    }
    /// What a stage would take from its start: the middle of its kind, by the step where the kind counts steps.
    #[must_use]
    pub fn estimate(&self, planned: &Planned) -> Option<f64> {
        let kind = planned.spec.kind.describe().kind;
        let Some(horizon) = &planned.horizon else { return self.seconds(kind) };
        let steps = |p: &Past| p.params.get(horizon.param)?.as_f64().filter(|n| *n > 0.0);
        let typical = self.0.get(kind)?;
        let each = || middle(typical.past.iter().filter_map(|p| Some(p.seconds / steps(p)?)).collect());
        let each = *typical.step.get_or_init(each);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        each.map(|s| s * horizon.steps as f64).or_else(|| self.seconds(kind))
    }
    /// The middle of what results of this kind take in the store, in bytes, if there were any.
    #[must_use]
    pub fn bytes(&self, kind: &str) -> Option<u64> {
        Some(self.0.get(kind)?.bytes)
    }
    /// Whether most stages of this kind ran on a GPU.
    #[must_use]
    pub fn on_gpu(&self, kind: &str) -> bool {
        self.0.get(kind).is_some_and(|k| k.on_gpu)
    }
}

fn middle<N: PartialOrd + Copy>(mut all: Vec<N>) -> Option<N> {
    all.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    all.get(all.len() / 2).copied()
}

/// The stage kind that made a record.
#[must_use]
pub fn kind_of(record: &ActionRecord) -> Option<&str> {
    record.manifest.get("kind")?.as_str()
}

/// One field in which two manifests differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its way from the top, such as `params`, `lr`.
    pub way: Vec<String>,
    /// What it was, if it was there.
    pub old: Option<Leaf>,
    /// What it is, if it is there.
    pub new: Option<Leaf>,
}

/// The leaves of a manifest that was kept as JSON; none if it is not one of ours.
#[must_use]
pub fn fields(manifest: &Value) -> Fields {
    let mut fields = Fields::default();
    let _ = replay(manifest, &mut fields);
    fields
}

/// Where two manifests differ, in the order of their fields.
#[must_use]
pub fn changes(old: &Fields, new: &Fields) -> Vec<Change> {
    let mut ways: Vec<&Vec<String>> = old.0.keys().chain(new.0.keys()).collect();
    ways.sort();
    ways.dedup();
    ways.into_iter()
        .map(|way| Change { way: way.clone(), old: old.0.get(way).cloned(), new: new.0.get(way).cloned() })
        .filter(|c| c.old != c.new)
        .collect()
}

/// The record of the same kind that differs in the fewest fields; of several, the newest.
#[must_use]
pub fn nearest(store: &Store, kind: &str, new: &Fields) -> Option<(ActionRecord, Vec<Change>)> {
    store
        .actions()
        .filter(|r| kind_of(r) == Some(kind))
        .map(|r| {
            let changes = changes(&fields(&r.manifest), new);
            (r, changes)
        })
        .min_by(|(a, x), (b, y)| x.len().cmp(&y.len()).then_with(|| b.finished.cmp(&a.finished)))
}
