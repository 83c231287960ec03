//! `opdflow export` and `import`: a run in one file, for another machine's store.

use super::{Exit, Failure, Session, args, find_run};
use crate::plan::key;
use crate::render::bytes;
use crate::runlog::{self, RunEvent, RunFolder};
use opdflow_cache::{Archive, Contents, Digest};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn run(session: &Session, args: &args::Export) -> Result<Exit, Failure> {
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
        if let Some(file) = entry.file_name().to_str().filter(|_| entry.path().is_file()) {
            found.insert(format!("{name}/{file}"), read(&entry.path())?);
        }
    }
    for entry in std::fs::read_dir(folder.path().join("logs")).into_iter().flatten().flatten() {
        if let Some(file) = entry.file_name().to_str().filter(|_| entry.path().is_file()) {
            found.insert(format!("{name}/logs/{file}"), read(&entry.path())?);
        }
    }
    Ok(found)
}

pub(super) fn take_in(session: &Session, args: &args::Import) -> Result<Exit, Failure> {
    let archive = Archive::open(&args.archive)?;
    // The store knows bytes only; that a record is what its key says is for us to see.
    if let Some(record) = archive.records().iter().find(|r| key::of_manifest(&r.manifest) != Some(r.key)) {
        return Err(Failure::Store(format!(
            "{} is damaged: the record of {} was made for another key; nothing was taken in",
            args.archive.display(),
            record.key.short()
        )));
    }
    let store = session.open()?;
    let _in_use = store.shared()?;
    let taken = store.take_in(&archive)?;
    let runs = place_runs(&archive, &RunFolder::home(&args.run_dir))?;
    if session.json {
        let attempts: BTreeMap<String, u32> = taken.attempts.iter().map(|(k, n)| (k.to_string(), *n)).collect();
        session.print(
            &json!({"new": taken.new, "same": taken.same, "attempts": attempts, "checkpoints": taken.checkpoints,
                "bytes": taken.bytes, "runs": runs})
            .to_string(),
        );
        return Ok(Exit::Done);
    }
    if !session.quiet {
        let all = archive.records().len();
        let (new, same, size) = (taken.new.len(), taken.same.len(), bytes(taken.bytes));
        session.note(&format!("{all} results: {new} new, {same} known; {size} written"));
        for (key, n) in &taken.attempts {
            let short = key.short();
            session.note(&format!(
                "{short} has another result here, which stays in use; that of the archive is kept as attempt {n}"
            ));
        }
        for run in runs {
            session.note(&format!("recorded as {run}; `opdflow run {run}/recipe.yaml` goes on from there"));
        }
    }
    Ok(Exit::Done)
}

/// Puts the runs' records where runs are recorded. One that is there stays as it is.
fn place_runs(archive: &Archive, home: &Path) -> Result<Vec<String>, Failure> {
    let failed = |path: &Path, e: std::io::Error| Failure::Store(format!("cannot write {}: {e}", path.display()));
    let mut names: Vec<&str> = archive.files().keys().filter_map(|p| Some(p.split_once('/')?.0)).collect();
    names.dedup();
    for name in &names {
        let folder = home.join(name);
        if folder.exists() {
            continue;
        }
        // Whole or not at all, as everything else.
        let fresh = home.join(format!(".import-{}-{name}", std::process::id()));
        for (path, bytes) in archive.files() {
            let Some(rest) = path.strip_prefix(name).and_then(|rest| rest.strip_prefix('/')) else { continue };
            let to = fresh.join(rest);
            let parent = to.parent().unwrap_or(&fresh);
            std::fs::create_dir_all(parent).map_err(|e| failed(parent, e))?;
            std::fs::write(&to, bytes).map_err(|e| failed(&to, e))?;
        }
        if let Err(e) = std::fs::rename(&fresh, &folder) {
            let _ = std::fs::remove_dir_all(&fresh);
            return Err(failed(&folder, e));
        }
    }
    Ok(names.iter().map(|name| home.join(name).display().to_string()).collect())
}
