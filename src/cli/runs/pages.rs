//! The page of a run, of two runs, or of what the store has of a recipe, made anew each time it is asked for.

use super::run::stage_line;
use crate::cli::{Failure, Session};
use crate::plan::{Verdict, verdicts};
use crate::render::page::{self, Options, Page};
use crate::runlog::{self, FORMAT, Line, RunEvent, RunFolder, RunStarted};
use opdflow_cache::Store;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a page is of.
pub(super) enum Of {
    /// A run.
    Run(RunFolder),
    /// What the store has of a recipe.
    Recipe {
        /// The recipe.
        path: PathBuf,
        /// Where runs are recorded: images on the way of trainings are there.
        home: PathBuf,
    },
}

/// A page, and the files that lie beside it.
pub(super) type Made = (String, BTreeMap<String, Vec<u8>>);

/// The page of one, or of two, and what lies in the folder `folder` beside it.
pub(super) fn made(
    session: &Session,
    of: &[Of],
    store: &Store,
    options: Options,
    (served, folder): (bool, &str),
) -> Result<Made, Failure> {
    let mut pages = of.iter().map(|of| page_of(session, of, store, options)).collect::<Result<Vec<_>, _>>()?;
    let mut files = BTreeMap::new();
    for page in &mut pages {
        folder.clone_into(&mut page.folder);
        files.append(&mut page.files);
    }
    let html = match (pages.pop(), pages.pop()) {
        (Some(second), Some(first)) => page::of_two(first, second, served),
        (Some(only), None) => page::html(&only, served),
        (None, _) => String::new(),
    };
    Ok((html, files))
}

fn page_of(session: &Session, of: &Of, store: &Store, options: Options) -> Result<Page, Failure> {
    match of {
        Of::Run(folder) => {
            // Asked before the log is read, as `status` does.
            let alive = runlog::is_alive(folder);
            let record = runlog::read(folder).map_err(|e| Failure::Usage(format!("{e:#}")))?;
            let own = own_store(&record.lines, store);
            Ok(Page::of(folder, &record.lines, alive, own.as_ref().unwrap_or(store), &session.registry, options))
        }
        Of::Recipe { path, home } => {
            let lines = of_store(session, path, store)?;
            let text = std::fs::read_to_string(path).ok();
            Ok(Page::of_store(text, &lines, home, store, &session.registry, options))
        }
    }
}

/// The store that a run used, where it is another one than that of now and still there: two runs may have used two.
fn own_store(lines: &[Line], store: &Store) -> Option<Store> {
    let started =
        lines.iter().find_map(|line| if let RunEvent::RunStarted(s) = &line.event { Some(s) } else { None })?;
    let path = Path::new(&started.store);
    let same = path.canonicalize().ok()? == store.root().canonicalize().ok()?;
    (!same && path.is_absolute()).then(|| Store::reopen(path).ok()).flatten()
}

/// What the store has of a recipe, as the events of a run in which nothing had to be computed.
fn of_store(session: &Session, path: &Path, store: &Store) -> Result<Vec<Line>, Failure> {
    let plan = session.survey_quietly(path)?;
    let at = std::time::UNIX_EPOCH.elapsed().map_or(0.0, |d| d.as_secs_f64());
    let mut events = vec![RunEvent::RunStarted(RunStarted {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        recipe: plan.recipe.name.clone(),
        path: path.display().to_string(),
        seed: plan.recipe.seed,
        store: store.root().display().to_string(),
        stages: (0..plan.stages.len()).map(|i| stage_line(&plan, i)).collect(),
        ..RunStarted::default()
    })];
    for (planned, (verdict, keys)) in plan.stages.iter().zip(verdicts(&plan, store)) {
        let stage = planned.spec.name.clone();
        if let Some(keys) = keys {
            events.push(RunEvent::Keyed { stage: stage.clone(), key: keys.key, lineage: keys.lineage });
        }
        if let Verdict::Hit { record } = verdict {
            let outputs = record.outputs.iter().map(|(port, o)| (port.clone(), o.object.digest)).collect();
            events.push(RunEvent::Hit { stage, saved_seconds: record.seconds, outputs });
        }
    }
    Ok(events.into_iter().map(|event| Line { at, event }).collect())
}
