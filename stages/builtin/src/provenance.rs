//! Which prompts a set holds and an adapter was trained on, as far as that is known before a run: for telling leaks.
//!
//! What travels with a plan is where the prompts come from, not the prompts themselves. Sets that are drawn from the
//! miniature's world have no source here: it draws its sets apart.

use opdflow_stage::Foreseen;
use opdflow_stage::cache::Digest;
use opdflow_stage::warning::{Doubt, LEAK};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a set of prompts comes from: a stage `prompts` with these parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The recipe's folder.
    pub folder: PathBuf,
    /// The stage's parameters.
    pub params: Value,
    /// `train`, `validation` or `test`.
    pub set: String,
}

/// The digests of prompts' words.
pub type Texts = BTreeSet<Digest>;

impl Source {
    /// As a text: it has no part in what a step costs, unlike the numbers that are foreseen.
    fn text(&self) -> String {
        json!(self).to_string()
    }
}

/// What is foreseen of a set of prompts, and that it comes from `source`.
pub fn from(mut foreseen: Value, source: &Source) -> Value {
    if let Value::Object(fields) = &mut foreseen {
        fields.insert("from".to_owned(), json!([source.text()]));
    }
    foreseen
}

/// The number of prompts of a set that is foreseen.
pub fn count(foreseen: &Value) -> Option<u64> {
    foreseen.as_u64().or_else(|| foreseen.get("count")?.as_u64())
}

fn sources(foreseen: &Value) -> Vec<Source> {
    let texts: Vec<String> = foreseen.get("from").and_then(|v| Vec::deserialize(v).ok()).unwrap_or_default();
    texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect()
}

/// The names of ports and what is foreseen of them: those called `name`, and those below `name.`.
fn on<'a>(inputs: &'a Foreseen, name: &'a str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let fits = move |port: &str| port.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    inputs.iter().filter(move |(port, _)| fits(port))
}

/// What is foreseen of adapters that are made on the prompts and of the adapters on these ports: all prompts that had a
/// part in them. The same for each of `outputs`.
pub fn trained(inputs: &Foreseen, ports: &[&str], outputs: &[&str]) -> Foreseen {
    let mut all: Vec<Source> = Vec::new();
    for source in ports.iter().flat_map(|port| on(inputs, port)).flat_map(|(_, v)| sources(v)) {
        if !all.contains(&source) {
            all.push(source);
        }
    }
    if all.is_empty() {
        return Foreseen::new();
    }
    let all: Vec<String> = all.iter().map(Source::text).collect();
    outputs.iter().map(|output| ((*output).to_owned(), json!({"from": all}))).collect()
}

/// Two things that are foreseen of the same outputs, as one.
pub fn both(mut one: Foreseen, other: Foreseen) -> Foreseen {
    for (port, value) in other {
        match (one.get_mut(&port), value) {
            (Some(Value::Object(fields)), Value::Object(more)) => fields.extend(more),
            (_, value) => drop(one.insert(port, value)),
        }
    }
    one
}

/// Prompts on the ports below `prompts` that the adapter on `adapter` was trained on. Sets of one and the same stage are
/// that stage's own to tell of.
pub fn leaks(inputs: &Foreseen, adapter: &str) -> Vec<Doubt> {
    let trained: Vec<Source> = on(inputs, adapter).flat_map(|(_, v)| sources(v)).collect();
    let mut doubts = Vec::new();
    for (port, value) in on(inputs, "prompts").filter(|_| !trained.is_empty()) {
        let (mut shared, mut total) = (Texts::new(), 0);
        for own in sources(value) {
            let texts = texts(&own);
            total += texts.len();
            for before in trained.iter().filter(|t| (&t.folder, &t.params) != (&own.folder, &own.params)) {
                shared.extend(texts.intersection(&self::texts(before)).copied());
            }
        }
        if !shared.is_empty() {
            let what = format!(
                "a prompt of `{port}` ({total} different ones) is among those that the adapter on `{adapter}` was trained on: its scores there say nothing of new prompts"
            );
            let help = "take it out of one of the two sets";
            doubts.push(Doubt::new(LEAK, format!("needs.{port}"), what, help).times(shared.len()));
        }
    }
    doubts
}

/// The words of a set, read once; none where its files cannot be read, which others tell of.
fn texts(source: &Source) -> Arc<Texts> {
    static KNOWN: Mutex<BTreeMap<String, Arc<Texts>>> = Mutex::new(BTreeMap::new());
    let key = serde_json::to_string(source).unwrap_or_default();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = || Arc::new(crate::prompts::texts(source).into_iter().map(|t| Digest::of(t.as_bytes())).collect());
    known.entry(key).or_insert_with(fresh).clone()
}
