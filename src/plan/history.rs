//! What earlier records in the store say: what a kind of stage takes of time and disk, and which record is nearest to a
//! manifest.

use super::Planned;
use super::manifest::{BEFORE_CODE, Fields, Leaf, replay};
use crate::recipe::StageSpec;
use opdflow_api::{Foreseen, Horizon};
use opdflow_cache::{ActionRecord, Digest, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of records of other sizes, how many of the nearest say what an operation costs.
const NEAREST: usize = 5;

/// What stages took of time and disk, from the records of a store.
#[derive(Clone, Debug, Default)]
pub struct History(BTreeMap<String, Vec<Past>>);

#[derive(Clone, Debug)]
struct Past {
    seconds: f64,
    bytes: u64,
    gpu: bool,
    threads: Option<usize>,
    ranks: usize,
    /// As [`Planned::sizes`]; records of before do not say.
    sizes: Option<String>,
    operations: Option<f64>,
    counted: Option<u64>,
    params: Value,
}

/// Where a number of a plan comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Measured on the same model and sizes.
    Measured,
    /// Measured on another model, other sizes or another version, and scaled by what was counted.
    Scaled,
    /// Counted, and never measured.
    Counted,
    /// Measured on other parameters of a kind that does not compute, and not scaled.
    Alike,
}

impl Source {
    /// One word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Scaled => "scaled",
            Self::Counted => "counted",
            Self::Alike => "alike",
        }
    }
}

/// What the time and the size of one run hold for: the parameters that decide what a step costs (all of the key, less the
/// horizon), files from outside, and what is known of inputs and outputs before they are there: the model, numbers of prompts.
#[must_use]
pub(super) fn sizes(spec: &StageSpec, horizon: Option<&Horizon>, assets: &Value, known: [&Foreseen; 2]) -> Digest {
    let mut params = opdflow_api::without_added(&spec.kind.schema(), &spec.params);
    for name in spec.kind.describe().outside_key.iter().copied().chain(horizon.map(|h| h.param)) {
        super::key::remove(&mut params, name);
    }
    Digest::of(json!([params, assets, known.map(costs)]).to_string().as_bytes())
}

/// Of what is known of artefacts, the numbers and switches: they decide what a step costs. Texts are prompts, places and where
/// things come from.
fn costs(known: &Foreseen) -> Value {
    fn of(value: &Value) -> Option<Value> {
        match value {
            Value::Number(_) | Value::Bool(_) => Some(value.clone()),
            Value::Array(all) => Some(Value::Array(all.iter().filter_map(of).collect())),
            Value::Object(all) => {
                Some(Value::Object(all.iter().filter_map(|(k, v)| Some((k.clone(), of(v)?))).collect()))
            }
            Value::Null | Value::String(_) => None,
        }
    }
    json!(known.iter().filter_map(|(port, value)| Some((port, of(value)?))).collect::<BTreeMap<_, _>>())
}

/// The facts that a record keeps of a stage, so that later plans know what its time and size hold for.
#[must_use]
pub fn facts(planned: &Planned) -> BTreeMap<String, String> {
    // Of a stage that ends by a rule nobody knows before how much of it was done.
    if planned.horizon.as_ref().is_some_and(|h| h.ends.is_some()) {
        return BTreeMap::new();
    }
    let work = planned.work.as_ref();
    [
        Some(("sizes", planned.sizes.to_string())),
        work.map(|w| ("operations", format!("{:e}", w.operations))),
        work.and_then(|w| w.bytes).map(|bytes| ("counted_bytes", bytes.to_string())),
    ]
    .into_iter()
    .flatten()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

impl Past {
    fn of(record: &mut ActionRecord) -> Self {
        let fact = |name: &str| record.note.get(name).cloned();
        let number = |name: &str| fact(name).and_then(|v| v.parse::<f64>().ok());
        Self {
            seconds: record.seconds,
            bytes: record.size(),
            gpu: fact("device").is_some_and(|d| d.starts_with("cuda")),
            threads: fact("threads").and_then(|n| n.parse().ok()),
            ranks: fact("ranks").and_then(|n| n.parse().ok()).unwrap_or(1),
            sizes: fact("sizes"),
            operations: number("operations").filter(|n| n.is_finite() && *n > 0.0),
            counted: fact("counted_bytes").and_then(|n| n.parse().ok()).filter(|n| *n > 0),
            params: record.manifest.get_mut("params").map(Value::take).unwrap_or_default(),
        }
    }
    fn steps(&self, horizon: Option<&Horizon>) -> Option<f64> {
        let Some(horizon) = horizon else { return Some(1.0) };
        self.params.get(horizon.param)?.as_f64().filter(|n| *n > 0.0)
    }
    fn like(&self, planned: &Planned) -> bool {
        // Of a stage that computes, nobody knows what it computes with unless its work could be counted.
        let known = !planned.spec.kind.describe().numeric || planned.work.is_some();
        known && self.sizes.as_deref() == Some(planned.sizes.to_string().as_str())
    }
    /// Whether a step of it had as many operations, where both are counted: another version of the code may do more in a step.
    fn costs_as_much(&self, planned: &Planned, steps: Option<f64>) -> bool {
        let own = self.operations.zip(self.steps(planned.horizon.as_ref())).map(|(n, steps)| n / steps);
        let wanted = planned.work.as_ref().zip(steps).map(|(work, steps)| work.operations / steps);
        // What comes once, such as prompts, is a larger share of a short run's steps.
        own.zip(wanted).is_none_or(|(own, wanted)| (own - wanted).abs() <= 0.2 * own.max(wanted))
    }
}

impl History {
    /// Reads all records.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        let mut by_kind: BTreeMap<String, Vec<Past>> = BTreeMap::new();
        for mut record in store.actions() {
            if let Some(kind) = kind_of(&record).map(ToOwned::to_owned) {
                by_kind.entry(kind).or_default().push(Past::of(&mut record));
            }
        }
        Self(by_kind)
    }

    fn of_kind(&self, planned: &Planned) -> &[Past] {
        self.0.get(planned.spec.kind.describe().kind).map_or(&[], Vec::as_slice)
    }

    /// Whether a stage of this kind has ever left a result.
    #[must_use]
    pub fn knows(&self, planned: &Planned) -> bool {
        !self.of_kind(planned).is_empty()
    }

    /// The middle of what stages of this kind took, if there were any: good for an order, and for nothing that is shown.
    #[must_use]
    pub fn roughly(&self, planned: &Planned) -> Option<f64> {
        middle(self.of_kind(planned).iter().map(|p| p.seconds).collect())
    }

    /// Seconds that a stage would take from its start, on a GPU or not. What was measured on the same model and sizes, by the
    /// step where the kind counts steps, or else what an operation cost on others. The time of a CPU says nothing of a GPU.
    #[must_use]
    pub fn seconds(&self, planned: &Planned, gpu: bool) -> Option<(f64, Source)> {
        let past: Vec<&Past> = self.of_kind(planned).iter().filter(|p| p.gpu == gpu).collect();
        let horizon = planned.horizon.as_ref();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let steps = horizon.map_or(Some(1.0), |h| h.steps.map(|n| n as f64));
        let ranks = planned.ranks(gpu);
        let as_many = |p: &&&Past| p.ranks == ranks && p.threads.is_none_or(|t| t == planned.resources.cpus);
        let as_costly = |p: &&&Past| p.costs_as_much(planned, steps);
        let same = past.iter().filter(|p| p.like(planned)).filter(as_many).filter(as_costly);
        let each = middle(same.filter_map(|p| Some(p.seconds / p.steps(horizon)?)).collect());
        if let (Some(each), Some(steps)) = (each, steps) {
            return Some((each * steps, Source::Measured));
        }
        if let Some(operations) = planned.work.as_ref().map(|w| w.operations).filter(|n| *n > 0.0) {
            let mut rates: Vec<(f64, f64)> = past
                .iter()
                .filter_map(|p| p.operations.map(|n| ((n / operations).ln().abs(), p.seconds * p.ranks as f64 / n)))
                .collect();
            rates.sort_by(|a, b| a.0.total_cmp(&b.0));
            let rate = middle(rates.into_iter().take(NEAREST).map(|(_, rate)| rate).collect())?;
            return Some((rate * operations / ranks as f64, Source::Scaled));
        }
        // Of a kind that counts, one that could not be counted is not known: its model or its files are not there.
        if planned.spec.kind.describe().numeric || past.iter().any(|p| p.operations.is_some()) {
            return None;
        }
        middle(past.iter().map(|p| p.seconds).collect()).map(|s| (s, Source::Alike))
    }

    /// Bytes that the results of a stage would take in the store.
    #[must_use]
    pub fn bytes(&self, planned: &Planned) -> Option<(u64, Source)> {
        let past = self.of_kind(planned);
        let horizon = planned.horizon.as_ref();
        #[expect(clippy::cast_precision_loss, reason = "steps are counted in thousands")]
        let as_long = |p: &&Past| p.steps(horizon) == horizon.map_or(Some(1.0), |h| h.steps.map(|n| n as f64));
        let same = past.iter().filter(|p| p.like(planned)).filter(as_long);
        if let Some(bytes) = middle(same.map(|p| p.bytes).collect()) {
            return Some((bytes, Source::Measured));
        }
        if let Some(counted) = planned.work.as_ref().and_then(|w| w.bytes) {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let rates = past.iter().filter_map(|p| Some(p.bytes as f64 / p.counted? as f64)).collect();
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an estimate, not negative"
            )]
            let scaled = middle(rates).map(|rate: f64| ((rate * counted as f64) as u64, Source::Scaled));
            return Some(scaled.unwrap_or((counted, Source::Counted)));
        }
        if planned.spec.kind.describe().numeric || past.iter().any(|p| p.counted.is_some()) {
            return None;
        }
        middle(past.iter().map(|p| p.bytes).collect()).map(|b| (b, Source::Alike))
    }
}

fn middle<N: PartialOrd + Copy>(mut all: Vec<N>) -> Option<N> {
    all.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    all.get(all.len() / 2).copied()
}

/// Whether a record was made before versions of the code were in keys.
#[must_use]
pub fn before_code(record: &ActionRecord) -> bool {
    record.manifest.get("format").and_then(Value::as_u64) == Some(BEFORE_CODE)
}

/// The stage kind that made a record.
#[must_use]
pub fn kind_of(record: &ActionRecord) -> Option<&str> {
    record.manifest.get("kind")?.as_str()
}

/// One field in which two manifests differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its path from the top, such as `params`, `lr`.
    pub path: Vec<String>,
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
    let mut paths: Vec<&Vec<String>> = old.0.keys().chain(new.0.keys()).collect();
    paths.sort();
    paths.dedup();
    paths
        .into_iter()
        .map(|path| Change { path: path.clone(), old: old.0.get(path).cloned(), new: new.0.get(path).cloned() })
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
