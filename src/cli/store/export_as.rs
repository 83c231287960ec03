//! `opdflow export --format`: a run in the files that another tracker reads.

use crate::cli::store::deliver::refusal;
use crate::cli::{Exit, Failure, Session, args, find_run};
use crate::report::{Standing, Summary};
use crate::runlog;
use crate::tracker::{self, Facts, Source, Story};
use opdflow_api::cache::Store;
use serde_json::json;

pub(crate) fn run(session: &Session, args: &args::Export, format: args::RunFormat) -> Result<Exit, Failure> {
    let usage = |e: anyhow::Error| Failure::Usage(format!("{e:#}"));
    let folder = find_run(&args.run_dir, args.run.as_deref())?;
    // Asked before the log is read, as `status` does.
    let alive = runlog::is_alive(&folder);
    let record = runlog::read(&folder).map_err(usage)?;
    let store = session.open()?;
    let _in_use = store.shared()?;
    let source = Source {
        folder: folder.clone(),
        store: Store::reopen(&session.store)?,
        registry: session.registry.clone(),
        no_prompts: args.no_prompts,
        images_of_hits: true,
    };
    let mut story = Story::of(source);
    let made = tempfile::tempdir().map_err(|e| Failure::Store(format!("cannot make a temporary folder: {e}")))?;
    let made = made.path().join("made");
    let written = match format {
        args::RunFormat::Mlflow => {
            let home = std::path::absolute(&args.output).ok().filter(|_| !args.no_prompts);
            let facts = Facts { run: &folder.name(), alive, home: home.as_deref() };
            tracker::mlflow(&mut story, &record.lines, facts, &made)
        }
        _ => tracker::tensorboard(&mut story, &record.lines, &made).map(|()| Vec::new()),
    };
    let cut = written.map_err(|e| Failure::Store(format!("{e:#}")))?;
    if story.is_empty() {
        return Err(Failure::Usage(format!(
            "no stage of {} has metrics, scores or images\nhelp: `opdflow status` shows how far the run is",
            folder.name()
        )));
    }
    // An empty folder is as good as none.
    let empty = std::fs::read_dir(&args.output).is_ok_and(|mut entries| entries.next().is_none());
    store.deliver_made(&made, &args.output, args.overwrite || empty).map_err(refusal)?;
    for warning in store.warnings() {
        session.note(&format!("warning: {warning}"));
    }
    let lacking = lacking(&record, alive, story.lacking().iter().chain(&cut));
    let (at, name) = (args.output.display().to_string(), format.name());
    if session.json {
        let found = json!({"path": at, "run": folder.name(), "format": name, "lacking": lacking});
        session.print(&found.to_string());
    } else if !session.quiet {
        session.note(&format!("{at}: {} for {name}", folder.name()));
        lacking.iter().for_each(|text| session.note(text));
    }
    Ok(Exit::Done)
}

/// What is not in the files, and why.
fn lacking<'a>(record: &runlog::Record, alive: bool, found: impl Iterator<Item = &'a String>) -> Vec<String> {
    let summary = Summary::of(&record.lines);
    let mut lacking: Vec<String> = found.cloned().collect();
    let done = |s: &Standing| matches!(s, Standing::Hit | Standing::Run | Standing::Resumed);
    let open = summary.stages.iter().filter(|s| !done(&s.state));
    let open: Vec<String> = open.map(|s| format!("`{}` ({})", s.name, s.state.word())).collect();
    if !open.is_empty() {
        lacking.push(format!("without a result: {}", open.join(", ")));
    }
    if record.skipped > 0 {
        lacking.push(format!("{} lines of the run log are damaged, or of a newer program", record.skipped));
    }
    if summary.started.stages.is_empty() {
        lacking.push("the run log lacks its first line".to_owned());
    }
    match summary.ended {
        Some(_) => {}
        None if alive => lacking.push("the run goes on: later events are in none of the files".to_owned()),
        None => lacking.push("the run log ends before its run did".to_owned()),
    }
    lacking
}
