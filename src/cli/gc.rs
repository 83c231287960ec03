//! `opdflow gc`: room in the store.

use super::{Exit, Failure, Session, args};
use crate::plan::history::kind_of;
use crate::render::{bytes, duration, name};
use crate::runlog::{self, RunEvent, RunFolder};
use opdflow_cache::{Digest, Evicted, EvictedKind, Gc, GcReport, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub(super) fn run(session: &Session, args: &args::Gc) -> Result<Exit, Failure> {
    let store = session.open()?;
    let mut plan = Gc {
        budget_bytes: args.budget.or_else(|| args.unused.then_some(0)),
        grace: args.grace,
        dry_run: !args.delete,
        ..Gc::default()
    };
    for run_dir in &args.run_dir {
        roots(run_dir, &mut plan.keep, &mut plan.keep_lineages)?;
    }
    // Names for what goes, while it is still there.
    let names = names(&store);
    let report = store.gc(&plan)?;
    for warning in store.warnings() {
        session.note(&format!("warning: {warning}"));
    }
    if session.json {
        session.print(&serde_json::json!(report).to_string());
    } else {
        session.print(&text(&report, &names, args));
    }
    Ok(Exit::Done)
}

/// The keys and lineages that the runs below `run_dir` name. A log that cannot be read stops everything: nobody knows
/// what it would have kept.
fn roots(run_dir: &Path, keys: &mut BTreeSet<Digest>, lineages: &mut BTreeSet<Digest>) -> Result<(), Failure> {
    for run in runlog::all(&RunFolder::home(run_dir)) {
        let record = runlog::read(&run).map_err(|e| Failure::Store(format!("{e:#}; nothing was swept")))?;
        for line in record.lines {
            if let RunEvent::Keyed { key, lineage, .. } = line.event {
                keys.insert(key);
                lineages.insert(lineage);
            }
        }
    }
    Ok(())
}

fn names(store: &Store) -> BTreeMap<Digest, String> {
    let mut names = BTreeMap::new();
    for record in store.actions() {
        let stage = record.note.get("stage").map_or("?", String::as_str);
        let name = format!("{} ({})", name(stage), name(kind_of(&record).unwrap_or("?")));
        names.entry(record.lineage).or_insert_with(|| name.clone());
        names.insert(record.key, name);
    }
    names
}

fn text(report: &GcReport, names: &BTreeMap<Digest, String>, args: &args::Gc) -> String {
    let mut out = String::new();
    for gone in &report.evicted {
        out.push_str(&line(gone, names.get(&gone.digest)));
    }
    let verb = if report.dry_run { "would go" } else { "gone" };
    let (results, checkpoints): (Vec<_>, Vec<_>) = report.evicted.iter().partition(|e| e.kind == EvictedKind::Action);
    let seconds: f64 = report.evicted.iter().map(|e| e.seconds).sum();
    out.push_str(&format!(
        "{verb}: {} results, checkpoints of {}, {} blobs",
        results.len(),
        checkpoints.len(),
        report.swept_blobs
    ));
    out.push_str(&format!(" ({}), {} leftovers\n", bytes(report.swept_bytes), report.swept_leftovers));
    if !report.evicted.is_empty() {
        out.push_str(&format!("to compute them again takes {}\n", duration(seconds)));
    }
    out.push_str(&format!(
        "the store: {} -> {}, {} results kept",
        bytes(report.before_bytes),
        bytes(report.after_bytes),
        report.kept_actions
    ));
    if args.budget.is_some() && !report.within_budget {
        out.push_str("\nstill over the budget: the rest is pinned, named by a recorded run, or younger than the grace");
    }
    if report.dry_run {
        out.push_str("\nnothing was touched: add `--delete` to do it");
    }
    out
}

fn line(gone: &Evicted, name: Option<&String>) -> String {
    let what = match gone.kind {
        EvictedKind::Action => "result",
        EvictedKind::Checkpoints => "checkpoints",
    };
    let name = name.map_or("", String::as_str);
    format!("  {what:11}  {}  {:>10}  {:>9}  {name}", gone.digest.short(), bytes(gone.bytes), duration(gone.seconds))
        .trim_end()
        .to_owned()
        + "\n"
}
