//! A lock of an output: the recipe with all that it was made of.

use crate::cli::{Failure, Session};
use crate::plan::{Plan, verdicts};
use crate::recipe::{self, LOCK_FORMAT, Lock, Pinned, from_folder};
use opdflow_api::cache::{Digest, Memo, Store};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a lock is for.
pub(super) struct For<'a> {
    /// `stage.port`.
    pub output: &'a str,
    /// Its stage.
    pub stage: usize,
    /// The key of that.
    pub key: Digest,
    /// Its content.
    pub digest: Digest,
    /// The stages that are run again.
    pub stages: &'a [usize],
}

/// The files that a stage reads from outside, as they are now.
fn asked(session: &Session, plan: &Plan, i: usize) -> BTreeMap<PathBuf, (u64, Digest)> {
    let spec = &plan.stages[i].spec;
    let memo = Memo::of(&session.store);
    // What is wrong with them was told when the plan was made.
    let _ = spec.kind.assets(&spec.params, &spec.folder, &memo);
    memo.save();
    memo.asked()
}

/// Their paths.
pub(super) fn paths(session: &Session, plan: &Plan, i: usize) -> Vec<PathBuf> {
    asked(session, plan, i).into_keys().collect()
}

/// The same, from the recipe's folder, with sizes and digests.
pub(super) fn files(session: &Session, plan: &Plan, i: usize) -> Vec<Pinned> {
    let pinned = |(path, (size, digest)): (PathBuf, (u64, Digest))| Pinned {
        path: from_folder(&path, &plan.recipe.folder),
        size,
        digest,
    };
    asked(session, plan, i).into_iter().map(pinned).collect()
}

/// The text of a lock. It was tried: read again it has the same key.
pub(super) fn of(session: &Session, plan: &Plan, wanted: &For<'_>, store: &Store) -> Result<String, Failure> {
    let recipe = &plan.recipe;
    let name = |i: usize| plan.stages[i].spec.name.clone();
    let (mut assets, mut inputs) = (BTreeMap::new(), BTreeMap::new());
    for i in plan.needed(wanted.stages) {
        let own: BTreeMap<String, Digest> = plan.stages[i].assets.iter().map(|a| (a.name.clone(), a.digest)).collect();
        if !own.is_empty() {
            assets.insert(name(i), own);
            inputs.insert(name(i), files(session, plan, i));
        }
    }
    let texts: BTreeMap<PathBuf, String> =
        recipe.sources.files().map(|(path, text)| (from_folder(path, &recipe.folder), text.to_owned())).collect();
    let first = recipe.sources.files().next().map(|(path, _)| from_folder(path, &recipe.folder)).unwrap_or_default();
    // Of a lock, what it says stays, below what the command line says now.
    let held = recipe.locked.as_ref().map(|locked| &locked.lock);
    let mut set = held.map(|lock| lock.set.clone()).unwrap_or_default();
    set.extend(session.overrides.vars.clone());
    let mut vars = held.map(|lock| lock.vars.clone()).unwrap_or_default();
    for file in &session.overrides.files {
        let text = opdflow_io::file::read_text(file, opdflow_io::file::DESCRIPTION);
        vars.push(text.map_err(|e| Failure::Usage(format!("cannot read {}: {e}", file.display())))?);
    }
    let lock = Lock {
        opdflow_lock: LOCK_FORMAT,
        program: crate::PROGRAM.to_owned(),
        output: wanted.output.to_owned(),
        key: wanted.key,
        digest: wanted.digest,
        stages: wanted.stages.iter().map(|i| name(*i)).collect(),
        folder: std::path::absolute(&recipe.folder).ok(),
        recipe: first,
        seed: session.overrides.seed.or(held.and_then(|lock| lock.seed)),
        set,
        vars,
        files: texts,
        assets,
        inputs,
    };
    let yaml = serde_yaml::to_string(&lock)
        .map_err(|e| Failure::Usage(format!("a lock cannot be written: {e}\nhelp: paths in it must be UTF-8 text")))?;
    let output = opdflow_io::terminal::line(wanted.output).into_owned();
    let text = format!(
        "# Of {output}, by opdflow. `opdflow run` with this file makes it again, or names what differs.\n{yaml}"
    );
    tried(session, &text, plan, wanted, store)?;
    Ok(text)
}

fn tried(session: &Session, text: &str, plan: &Plan, wanted: &For<'_>, store: &Store) -> Result<(), Failure> {
    let nothing = recipe::Overrides::default();
    let bug = |why: &str| Failure::Bug(format!("the lock of `{}` {why}", wanted.output));
    let read = recipe::parse(Path::new("recipe.lock.yaml"), text.to_owned(), &session.registry, &nothing);
    let read = read.map_err(|found| bug(&format!("cannot be read: {}", found.render(false))))?;
    let again = Plan::survey(read, plan.facts.clone(), &Memo::of(&session.store));
    again.whole(&again.needed(wanted.stages))?;
    let key = verdicts(&again, store).into_iter().nth(wanted.stage).and_then(|(_, keys)| keys).map(|keys| keys.key);
    if key == Some(wanted.key) { Ok(()) } else { Err(bug("has another key")) }
}
