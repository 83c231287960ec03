//! `opdflow report`: a run, two runs, or what the store has of a recipe, as a page for a browser.

use super::run::stage_line;
use super::serve::serve;
use crate::cli::{Exit, Failure, Session, args};
use crate::plan::{Verdict, verdicts};
use crate::render::page::{self, Hidden, Page};
use crate::runlog::{self, FORMAT, Line, RunEvent, RunFolder, RunStarted};
use anyhow::Context as _;
use opdflow_cache::Store;
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

pub(crate) fn run(session: &Session, args: &args::Report) -> Result<Exit, Failure> {
    let hidden = Hidden { prompts: args.no_prompts };
    let of: Vec<Of> = match args.of.as_slice() {
        [] => vec![Of::Run(crate::cli::find_run(&args.run_dir, None)?)],
        names => names.iter().map(|name| named(name, args)).collect::<Result<_, _>>()?,
    };
    let recipe = of.iter().any(|of| matches!(of, Of::Recipe { .. }));
    let store = if recipe { session.open()? } else { Store::reopen(&session.store)? };
    let _in_use = store.shared()?;
    if args.serve {
        return serve(session, &of, &store, hidden, args.port);
    }
    let html = html(session, &of, &store, hidden, false)?;
    write(&args.output, &html, args.overwrite)?;
    session.print(&format!("{}: {} kB", args.output.display(), html.len() / 1000));
    Ok(Exit::Done)
}

/// What a name means: a file is a recipe, anything else a run.
fn named(name: &str, args: &args::Report) -> Result<Of, Failure> {
    if Path::new(name).is_file() {
        return Ok(Of::Recipe { path: name.into(), home: RunFolder::home(&args.run_dir) });
    }
    crate::cli::find_run(&args.run_dir, Some(name)).map(Of::Run)
}

/// The page of one, or of two.
pub(super) fn html(
    session: &Session,
    of: &[Of],
    store: &Store,
    hidden: Hidden,
    served: bool,
) -> Result<String, Failure> {
    let mut pages = of.iter().map(|of| page_of(session, of, store, hidden)).collect::<Result<Vec<_>, _>>()?;
    Ok(match (pages.pop(), pages.pop()) {
        (Some(second), Some(first)) => page::of_two(first, second, served),
        (Some(only), None) => page::html(&only, served),
        (None, _) => String::new(),
    })
}

fn page_of(session: &Session, of: &Of, store: &Store, hidden: Hidden) -> Result<Page, Failure> {
    match of {
        Of::Run(folder) => {
            // Asked before the log is read, as `status` does.
            let alive = runlog::is_alive(folder);
            let record = runlog::read(folder).map_err(|e| Failure::Usage(format!("{e:#}")))?;
            Ok(Page::of(folder, &record.lines, alive, store, &session.registry, hidden))
        }
        Of::Recipe { path, home } => {
            let lines = of_store(session, path, store)?;
            let text = std::fs::read_to_string(path).ok();
            Ok(Page::of_store(text, &lines, home, store, &session.registry, hidden))
        }
    }
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

/// Writes the page whole or not at all, and never over what is no page of ours unless it is asked to.
fn write(path: &Path, html: &str, overwrite: bool) -> Result<(), Failure> {
    if path.is_dir() {
        return Err(Failure::Usage(format!("{} is a folder\nhelp: name the file: `-o report.html`", path.display())));
    }
    if path.symlink_metadata().is_ok() && !overwrite {
        let help = "`--overwrite` replaces it";
        return Err(Failure::Usage(format!("{} is there already\nhelp: {help}", path.display())));
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let put = || -> anyhow::Result<()> {
        let mut part =
            tempfile::NamedTempFile::new_in(parent).with_context(|| format!("cannot write in {}", parent.display()))?;
        std::io::Write::write_all(&mut part, html.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        part.as_file().set_permissions(mode).with_context(|| format!("cannot write {}", path.display()))?;
        part.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    };
    put().map_err(|e| Failure::Store(format!("{e:#}")))
}
