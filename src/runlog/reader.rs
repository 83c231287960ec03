//! The reading end of a run log.

use super::event::{FORMAT, Line, RunEvent};
use super::folder::RunFolder;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// What could be read of a run log.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The events, in their order.
    pub lines: Vec<Line>,
    /// Lines that are no event known here: written by a newer program, or damaged.
    pub skipped: usize,
}

/// Reads the log of a run. A torn last line is what a crash leaves and is passed over.
///
/// # Errors
/// There is no log, or a newer program wrote it.
pub fn read(folder: &RunFolder) -> Result<Record> {
    let path = folder.events();
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let record = parse(&bytes);
    for line in &record.lines {
        if let RunEvent::RunStarted(started) = &line.event
            && started.format > FORMAT
        {
            bail!(
                "{} has format {}, this program knows up to {FORMAT}: update the program",
                path.display(),
                started.format
            );
        }
    }
    Ok(record)
}

fn parse(bytes: &[u8]) -> Record {
    let mut record = Record::default();
    let mut lines = bytes.split(|b| *b == b'\n').peekable();
    while let Some(line) = lines.next() {
        let torn = lines.peek().is_none();
        match serde_json::from_slice::<Line>(line) {
            Ok(line) => record.lines.push(line),
            Err(_) if line.is_empty() || torn => {}
            Err(_) => record.skipped += 1,
        }
    }
    // A newer first line may have become unreadable as a whole; its format number must still be seen.
    if record.lines.is_empty()
        && let Some(first) = bytes.split(|b| *b == b'\n').next()
        && let Ok(value) = serde_json::from_slice::<Value>(first)
        && let Some(format) = value.pointer("/event/run_started/format").and_then(Value::as_u64)
    {
        let format = u32::try_from(format).unwrap_or(u32::MAX);
        let event = RunEvent::RunStarted(super::RunStarted { format, ..Default::default() });
        record.lines.push(Line { at: 0.0, event });
    }
    record
}

/// Whether the process that writes this log still lives.
#[must_use]
pub fn is_alive(folder: &RunFolder) -> bool {
    let Ok(file) = File::open(folder.events()) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The folder of the run called `name`, or of the latest one: a name below `home`, the beginning of one, or a path.
///
/// # Errors
/// There is no such run.
pub fn find(home: &Path, name: Option<&str>) -> Result<RunFolder> {
    let runs = names(home);
    let found = match name {
        None => runs.last().map(|n| home.join(n)),
        Some(name) => {
            let path = PathBuf::from(name);
            let is_run = |p: &Path| p.join("events.jsonl").is_file();
            let among: Vec<_> = runs.iter().filter(|r| r.starts_with(name)).collect();
            match among.as_slice() {
                _ if is_run(&home.join(name)) => Some(home.join(name)),
                _ if is_run(&path) => Some(path),
                [one] => Some(home.join(one)),
                [_, _, ..] => bail!("`{name}` fits {} runs in {}: give more of its name", among.len(), home.display()),
                [] => None,
            }
        }
    };
    match (found, name) {
        (Some(path), _) => Ok(RunFolder::of(path)),
        (None, None) => bail!("no run in {}: start one with `opdflow run RECIPE`", home.display()),
        (None, Some(name)) => {
            let latest = runs.last().map_or_else(String::new, |l| format!("; the latest is `{l}`"));
            bail!("no run `{name}` in {}{latest}", home.display())
        }
    }
}

/// All runs below `home`, oldest first.
#[must_use]
pub fn all(home: &Path) -> Vec<RunFolder> {
    names(home).into_iter().map(|name| RunFolder::of(home.join(name))).collect()
}

/// The names of the runs below `home`, oldest first.
fn names(home: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(home).into_iter().flatten().flatten();
    let mut runs: Vec<_> = entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()) && e.path().join("events.jsonl").is_file())
        .map(|e| (e.metadata().and_then(|m| m.modified()).ok(), e.file_name().to_string_lossy().into_owned()))
        .collect();
    // Names begin with the second; two runs of one second are told apart by their folders' times.
    runs.sort_by(|a, b| a.1.get(..16).cmp(&b.1.get(..16)).then(a.0.cmp(&b.0)).then(a.1.cmp(&b.1)));
    runs.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runlog::{RunLog, RunStarted};

    #[test]
    fn what_is_written_is_read_and_a_torn_end_is_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path(), "r").unwrap();
        let mut log = RunLog::create(&folder).unwrap();
        let start = RunEvent::RunStarted(RunStarted { format: FORMAT, recipe: "r".into(), ..Default::default() });
        let progress = |step| RunEvent::Progress { stage: "a".into(), step, total: 9, note: String::new() };
        log.write(&start).unwrap();
        for step in 0..=9 {
            log.write(&progress(step)).unwrap();
        }
        assert!(is_alive(&folder));
        drop(log);
        assert!(!is_alive(&folder));
        let events: Vec<_> = read(&folder).unwrap().lines.into_iter().map(|l| l.event).collect();
        assert_eq!(events, [start, progress(0), progress(9)]);

        let whole = std::fs::read(folder.events()).unwrap();
        for cut in 0..whole.len() {
            let record = parse(&whole[..cut]);
            assert_eq!(record.skipped, 0);
            assert!(record.lines.len() <= 3);
        }
        let record = parse(b"{\"at\":1,\"event\":{\"from_the_future\":{}}}\nrubbish\n{\"at\":2,\"event\":{\"warned\":{\"text\":\"x\"}}}\n");
        assert_eq!((record.lines.len(), record.skipped), (1, 2));
    }

    #[test]
    fn a_newer_log_is_refused_by_name() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path(), "r").unwrap();
        std::fs::write(folder.events(), "{\"at\":1,\"event\":{\"run_started\":{\"format\":9,\"recipe\":7}}}\n")
            .unwrap();
        assert!(read(&folder).unwrap_err().to_string().contains("format 9"));
    }

    #[test]
    fn the_latest_is_found_and_a_prefix_will_do() {
        let home = tempfile::tempdir().unwrap();
        assert!(find(home.path(), None).is_err());
        let folder = RunFolder::create(home.path(), "r").unwrap();
        RunLog::create(&folder).unwrap();
        assert_eq!(find(home.path(), None).unwrap(), folder);
        assert_eq!(find(home.path(), Some(&folder.name()[..12])).unwrap(), folder);
        assert!(find(home.path(), Some("nope")).unwrap_err().to_string().contains(&folder.name()));
    }
}
