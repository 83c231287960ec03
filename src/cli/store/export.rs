//! `opdflow export`: a run in one file, for another machine's store; with `--format`, for another tracker (`export_as.rs`).

use crate::cli::store::export_as;
use crate::cli::{Exit, Failure, Session, args, find_run};
use crate::render::bytes;
use crate::runlog::{self, RunEvent, RunFolder};
use opdflow_cache::{Contents, Digest};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) fn run(session: &Session, args: &args::Export) -> Result<Exit, Failure> {
    if args.format != args::RunFormat::Bundle {
        return export_as::run(session, args, args.format);
    }
    for (flag, given) in [("--overwrite", args.overwrite), ("--no-prompts", args.no_prompts)] {
        if given {
            let help = "leave it away, or name a tracker: `--format tensorboard`";
            return Err(Failure::Usage(format!(
                "`{flag}` is not for an archive of a run, which is whole and new\nhelp: {help}"
            )));
        }
    }
    let folder = find_run(&args.run_dir, args.run.as_deref())?;
    let log = runlog::read(&folder)?;
    let mut keyed: BTreeMap<String, (Digest, Digest)> = BTreeMap::new();
    let mut stages = Vec::new();
    for line in log.lines {
        match line.event {
            RunEvent::RunStarted(started) => stages = started.stages,
            RunEvent::Keyed { stage, key, lineage } => {
                keyed.insert(stage, (key, lineage));
            }
            _ => {}
        }
    }
    let store = session.open()?;
    let _in_use = store.shared()?;
    let (mut keys, mut lineages, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
    for stage in stages.iter().map(|s| s.name.as_str()) {
        match keyed.get(stage) {
            Some((key, _)) if store.action(key)?.is_some() => keys.push(*key),
            found => {
                lacking.push(stage);
                lineages.extend(found.map(|(_, lineage)| *lineage));
            }
        }
    }
    if keys.is_empty() {
        let name = folder.name();
        return Err(Failure::Usage(format!(
            "no stage of {name} has a result in {}\nhelp: `opdflow status` shows how the runs went; `--store` names another store",
            session.store.display()
        )));
    }
    let files = files(&folder)?;
    let packed = store.pack(&args.output, &Contents { keys: &keys, lineages: &lineages, files: &files })?;
    let at = args.output.display();
    if session.json {
        session.print(
            &json!({"path": at.to_string(), "run": folder.name(), "results": packed.records,
                "checkpoints": packed.checkpoints, "blobs": packed.blobs, "bytes": packed.size, "lacking": lacking})
            .to_string(),
        );
    } else if !session.quiet {
        let checkpoints = match packed.checkpoints {
            0 => String::new(),
            n => format!(", the newest checkpoint of {n} unfinished"),
        };
        session.note(&format!("{at}: {} results{checkpoints}, {}", packed.records, bytes(packed.size)));
        if !lacking.is_empty() {
            session.note(&format!("without a result: {}", lacking.join(", ")));
        }
    }
    Ok(Exit::Done)
}

/// What the run recorded of itself, below its name. Its jobs and copies are left out: they are made anew.
fn files(folder: &RunFolder) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|e| Failure::Store(format!("cannot read {}: {e}", path.display())));
    let (name, mut found) = (folder.name(), BTreeMap::new());
    // The recipe, its files of variables, the log of events.
    for entry in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
        let file = entry.file_name();
        // The keys are in the log, too.
        if let Some(file) = file.to_str().filter(|_| entry.path().is_file() && entry.path() != folder.keys()) {
            let mut bytes = read(&entry.path())?;
            if entry.path() == folder.events() {
                // A run under way may be in the middle of a line.
                bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1));
            }
            found.insert(format!("{name}/{file}"), bytes);
        }
    }
    for entry in std::fs::read_dir(folder.path().join("logs")).into_iter().flatten().flatten() {
        if let Some(file) = entry.file_name().to_str().filter(|_| entry.path().is_file()) {
            found.insert(format!("{name}/logs/{file}"), read(&entry.path())?);
        }
    }
    Ok(found)
}
