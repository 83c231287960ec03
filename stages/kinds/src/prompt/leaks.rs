//! Prompts that an adapter was trained on, among those that it is judged on.

use crate::prompt::provenance::{Source, on, sources};
use crate::stages::prompts;
use opdflow_api::Foreseen;
use opdflow_api::cache::Digest;
use opdflow_api::warning::{Doubt, LEAK};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The digests of prompts' words.
type Texts = BTreeSet<Digest>;

/// Prompts on the ports below `prompts` that the adapter on `adapter` was trained on. Sets of one and the same stage are
/// that stage's own to tell of.
pub fn leaks(inputs: &Foreseen, adapter: &str) -> Vec<Doubt> {
    shared(inputs, &["prompts"], &[adapter], &format!("the adapter on `{adapter}`"))
}

/// Prompts on the ports `judged`, or below them, that a training itself trains on: it reads the others on the ports `trained`.
pub fn judged_on_trained(inputs: &Foreseen, judged: &[&str], trained: &[&str]) -> Vec<Doubt> {
    shared(inputs, judged, trained, "it")
}

fn shared(inputs: &Foreseen, judged: &[&str], trained: &[&str], whom: &str) -> Vec<Doubt> {
    let trained: Vec<Source> = trained.iter().flat_map(|port| on(inputs, port)).flat_map(|(_, v)| sources(v)).collect();
    let mut doubts = Vec::new();
    for (port, value) in judged.iter().flat_map(|port| on(inputs, port)).filter(|_| !trained.is_empty()) {
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
                "a prompt of `{port}` ({total} different ones) is among those that {whom} was trained on: its scores there say nothing of new prompts"
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
    let fresh = || Arc::new(prompts::texts(source).into_iter().map(|t| Digest::of(t.as_bytes())).collect());
    known.entry(key).or_insert_with(fresh).clone()
}
