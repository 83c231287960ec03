//! `opdflow pin` and `unpin`: results that `gc` must keep, and which of several differing ones counts.

use crate::cli::{Exit, Failure, Session, args};
use crate::plan::{Keys, Plan, Verdict, verdicts};
use opdflow_cache::Store;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) fn run(session: &Session, args: &args::Pin) -> Result<Exit, Failure> {
    let store = session.open()?;
    let _in_use = store.shared()?;
    match (&args.recipe, args.attempt) {
        (None, _) => list(session, &store),
        (Some(recipe), Some(n)) => choose(session, &store, recipe, args, n),
        (Some(recipe), None) => keep(session, &store, recipe, args),
    }
}

pub(crate) fn take_away(session: &Session, args: &args::Unpin) -> Result<Exit, Failure> {
    let store = session.open()?;
    let _in_use = store.shared()?;
    let below = format!("{}.", args.name);
    let gone: Vec<String> = store.pins()?.into_keys().filter(|n| *n == args.name || n.starts_with(&below)).collect();
    if gone.is_empty() {
        return Err(Failure::Usage(format!("there is no pin `{}`\nhelp: `opdflow pin` lists them", args.name)));
    }
    for name in &gone {
        store.unpin(name)?;
    }
    if session.json {
        session.print(&json!({"unpinned": gone}).to_string());
    } else if !session.quiet {
        session.note(&format!("unpinned {}", gone.join(", ")));
    }
    Ok(Exit::Done)
}

fn list(session: &Session, store: &Store) -> Result<Exit, Failure> {
    let pins = store.pins()?;
    if session.json {
        session.print(&json!(pins).to_string());
    } else if !pins.is_empty() {
        let width = pins.keys().map(String::len).max().unwrap_or(0);
        let there = |key| if store.action(key).ok().flatten().is_some() { "" } else { "  (its result is gone)" };
        let lines: Vec<String> =
            pins.iter().map(|(name, key)| format!("{name:width$}  {}{}", key.short(), there(key))).collect();
        session.print(&lines.join("\n"));
    }
    Ok(Exit::Done)
}

/// Pins stages and all they stand on: without those, nobody could find their keys again.
fn keep(session: &Session, store: &Store, recipe: &Path, args: &args::Pin) -> Result<Exit, Failure> {
    let plan = session.plan(recipe)?;
    let all = verdicts(&plan, store);
    let mut targets = args.stages.iter().map(|n| session.stages(&plan, n)).collect::<Result<Vec<_>, _>>()?.concat();
    if targets.is_empty() {
        targets = (0..plan.stages.len()).collect();
    }
    let name = args.name.clone().unwrap_or_else(|| plain(&plan.recipe.name));
    let mut pins = BTreeMap::new();
    for i in plan.needed(&targets) {
        pins.insert(format!("{name}.{}", plain(&plan.stages[i].spec.name)), there(&plan, &all, i)?.key);
    }
    for (name, key) in &pins {
        store.pin(name, key)?;
    }
    if session.json {
        session.print(&json!(pins).to_string());
    } else if !session.quiet {
        let results = if pins.len() == 1 { "result" } else { "results" };
        session.note(&format!("pinned {} {results} as {name}.*; `opdflow unpin {name}` takes that back", pins.len()));
    }
    Ok(Exit::Done)
}

/// From now on another of the differing results of one stage is the one that is used.
fn choose(session: &Session, store: &Store, recipe: &Path, args: &args::Pin, n: u32) -> Result<Exit, Failure> {
    let plan = session.plan(recipe)?;
    let [name] = args.stages.as_slice() else {
        return Err(Failure::Usage(
            "`--attempt` chooses among the results of one stage\nhelp: name that stage after the recipe".into(),
        ));
    };
    let i = session.stage(&plan, name)?;
    let key = there(&plan, &verdicts(&plan, store), i)?.key;
    let attempts = store.attempts(&key)?;
    if !attempts.iter().any(|(number, _)| *number == n) {
        let numbers: Vec<String> = attempts.iter().map(|(n, r)| format!("{n} ({})", r.finished)).collect();
        let help = match numbers.as_slice() {
            [] => format!(
                "`{name}` has one result only; `opdflow run --force {name}` computes it again and keeps what differs"
            ),
            _ => format!("choose from {}", numbers.join(", ")),
        };
        return Err(Failure::Usage(format!("`{name}` has no result number {n}\nhelp: {help}")));
    }
    store.choose(&key, n)?;
    if session.json {
        session.print(&json!({"stage": name, "key": key, "attempt": n}).to_string());
    } else if !session.quiet {
        session
            .note(&format!("`{name}` now stands for its result number {n}; the one before is kept under that number"));
    }
    Ok(Exit::Done)
}

/// The keys of a stage whose result is in the store.
fn there<'a>(plan: &Plan, all: &'a [(Verdict, Option<Keys>)], i: usize) -> Result<&'a Keys, Failure> {
    match &all[i] {
        (Verdict::Hit { .. }, Some(keys)) => Ok(keys),
        _ => {
            let (name, recipe) = (&plan.stages[i].spec.name, plan.recipe.path.display());
            Err(Failure::Usage(format!(
                "`{name}` has no result in the store\nhelp: run `opdflow run {recipe} --until {name}` first"
            )))
        }
    }
}

/// `name` in the letters that pins are made of.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' }).collect()
}
