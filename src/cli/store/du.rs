//! `opdflow du`: what the store takes, and for what.

use crate::cli::{Exit, Failure, Session};
use crate::plan::history::kind_of;
use crate::render::{bytes, duration, name};
use opdflow_cache::{Share, Store, Usage};
use serde_json::json;
use std::collections::BTreeMap;

/// What the results of one kind of stage come to.
#[derive(Default)]
struct Tally {
    results: u64,
    /// A blob that several results share counts for each of them.
    bytes: u64,
    seconds: f64,
}

pub(crate) fn run(session: &Session) -> Result<Exit, Failure> {
    let store = session.open()?;
    let _in_use = store.shared()?;
    let usage = store.usage();
    let kinds = kinds(&store);
    if session.json {
        let kinds: BTreeMap<_, _> = kinds
            .iter()
            .map(|(k, t)| (k, json!({"results": t.results, "bytes": t.bytes, "seconds": t.seconds})))
            .collect();
        let all = json!({"store": store.root().display().to_string(), "bytes": usage.bytes(), "parts": usage, "kinds": kinds});
        session.print(&all.to_string());
    } else {
        session.print(text(&store, &usage, &kinds).trim_end());
    }
    Ok(Exit::Done)
}

fn kinds(store: &Store) -> BTreeMap<String, Tally> {
    let mut kinds: BTreeMap<String, Tally> = BTreeMap::new();
    for record in store.actions() {
        let tally = kinds.entry(name(kind_of(&record).unwrap_or("?")).into_owned()).or_default();
        tally.results += 1;
        tally.bytes = tally.bytes.saturating_add(record.size());
        tally.seconds += record.seconds;
    }
    kinds
}

fn text(store: &Store, usage: &Usage, kinds: &BTreeMap<String, Tally>) -> String {
    let parts: [(&str, Share); 6] = [
        ("blobs", usage.blobs),
        ("records", usage.actions),
        ("checkpoints", usage.checkpoints),
        ("work", usage.work),
        ("tmp", usage.tmp),
        ("damaged", usage.damaged),
    ];
    let mut out = format!("{}: {}\n", store.root().display(), bytes(usage.bytes()));
    for (name, share) in parts.iter().filter(|(_, share)| share.files > 0) {
        out.push_str(&format!("  {name:12} {:>10}  {} files\n", bytes(share.bytes), share.files));
    }
    if !kinds.is_empty() {
        out.push_str("results, those that share bytes counted each:\n");
    }
    let width = kinds.keys().map(String::len).max().unwrap_or(0);
    let mut sorted: Vec<_> = kinds.iter().collect();
    sorted.sort_by_key(|(_, t)| std::cmp::Reverse(t.bytes));
    for (kind, tally) in sorted {
        out.push_str(&format!(
            "  {kind:width$}  {:>4}  {:>10}  {} of work\n",
            tally.results,
            bytes(tally.bytes),
            duration(tally.seconds)
        ));
    }
    out
}
