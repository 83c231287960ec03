//! `opdflow gc`: room in the store.

use crate::cli::{Exit, Failure, Session, args};
use crate::plan::history::kind_of;
use crate::render::{bytes, duration, name};
use crate::runlog::{self, RunFolder, Unclear};
use opdflow_cache::{Digest, Evicted, EvictedKind, Gc, GcReport, Roots, Store};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) fn run(session: &Session, args: &args::Gc) -> Result<Exit, Failure> {
    let store = session.open()?;
    let plan =
        Gc { budget_bytes: args.budget.or_else(|| args.unused.then_some(0)), grace: args.grace, dry_run: !args.delete };
    let mut named = BTreeMap::new();
    let foreign = store.foreign_users()?;
    if !plan.dry_run && !foreign.is_empty() {
        let seconds = store.setting().patience.as_secs();
        session.note(&format!("waits up to {seconds} s for a sign of life of {}", name(&foreign.join(", "))));
    }
    let report = store.gc(&plan, || {
        // Names for what goes, while it is still there.
        named = names(&store)?;
        roots(args, &store)
    })?;
    for warning in store.warnings() {
        session.note(&format!("warning: {warning}"));
    }
    if session.json {
        session.print(&serde_json::json!(report).to_string());
    } else {
        session.print(&text(&report, &named, args));
    }
    Ok(Exit::Done)
}

/// The folder in which runs are recorded unless another one is named.
const RUN_DIR: &str = ".opdflow";

/// What the runs need that are recorded in the folders that were named. A run that cannot be read stops everything:
/// nobody knows what it would have kept.
fn roots(args: &args::Gc, store: &Store) -> Result<Roots, Failure> {
    let evicts = args.unused || args.budget.is_some();
    let mut homes = Vec::new();
    for run_dir in &args.run_dir {
        homes.push(home_of(run_dir, store)?);
    }
    if args.run_dir.is_empty() && evicts && !args.no_runs {
        homes.push(home_of(Path::new(RUN_DIR), store)?);
    }
    let mut roots = Roots::default();
    // Without evictions only what no record names goes, so that no run needs to be asked.
    if evicts && !args.no_runs {
        // Runs that could not be recorded in their proper place.
        homes.extend(RunFolder::temporary_home());
        for home in homes {
            let found = runlog::needs(&home).map_err(|unclear| stopped(&unclear))?;
            roots.keys.extend(found.keys);
            roots.lineages.extend(found.lineages);
        }
    }
    Ok(roots)
}

/// Where runs are recorded below a folder. A mistyped name must not count as a folder without runs.
fn home_of(run_dir: &Path, store: &Store) -> Result<PathBuf, Failure> {
    let home = RunFolder::home(run_dir);
    if std::fs::read_dir(&home).is_ok() {
        return Ok(home);
    }
    let (shown, store) = (run_dir.display(), store.root().display());
    let why = match (run_dir.symlink_metadata(), home.symlink_metadata()) {
        (Err(_), _) => format!("there is no folder {shown}"),
        (Ok(_), Ok(_)) => format!("{} cannot be read", home.display()),
        (Ok(_), Err(_)) => format!("{shown} is no folder that runs are recorded in: it has no `runs`"),
    };
    Err(Failure::Usage(format!(
        "{why}, so nobody can say which results in {store} are needed; nothing was removed\nhelp: go to the project's folder, or name its `{RUN_DIR}` with `--run-dir`; `--no-runs` keeps only what is pinned or young"
    )))
}

fn stopped(unclear: &Unclear) -> Failure {
    let help = match &unclear.run {
        Some(run) => format!(
            "give the run's command again, which records it anew, or pin what it made; then remove {}",
            run.display()
        ),
        None => "make it readable, or move it away".to_owned(),
    };
    let path = unclear.path.display();
    Failure::Store(format!("cannot tell what a run needs: {path}: {}; nothing was removed\nhelp: {help}", unclear.why))
}

fn names(store: &Store) -> Result<BTreeMap<Digest, String>, Failure> {
    let mut names = BTreeMap::new();
    for record in store.records()? {
        let stage = record.note.get("stage").map_or("?", String::as_str);
        let name = format!("{} ({})", name(stage), name(kind_of(&record).unwrap_or("?")));
        names.entry(record.lineage).or_insert_with(|| name.clone());
        names.insert(record.key, name);
    }
    Ok(names)
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
