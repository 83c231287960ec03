//! What recorded runs need of the store, for a sweep that must not take it.
//!
//! Whoever shows a run passes over what it cannot read. Here that would be a loss: a line that is passed over may name a
//! result that somebody waits for. So anything that cannot be read, or that does not go together, is an error that names it.
//!
//! Beside the log, a run keeps each key in the file `keys`, one a line, before it is in the log. So a log that lost lines
//! is told from one whose run was killed.

use super::event::{FORMAT, Line, RunEvent, StageLine};
use super::folder::RunFolder;
use super::reader::is_alive;
use opdflow_api::cache::Digest;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// No line of a log is longer: messages of stages are cut long before.
const LINE_LIMIT: u64 = 64 << 20;

/// A run of another store may be beginning just now, or writing a line: its folder comes before its log. One whose folder
/// is older is not.
const SETTLED: Duration = Duration::from_secs(5);

/// How long such a run is waited for.
const PATIENCE: Duration = Duration::from_millis(300);

/// Keys of results, and lineages of checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The keys of stages.
    pub keys: BTreeSet<Digest>,
    /// Their lineages.
    pub lineages: BTreeSet<Digest>,
}

/// Something that may name what a run needs, and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclear {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// The run's folder, if it is one run.
    pub run: Option<PathBuf>,
}

/// What the log of a run says, if it can be read to its end.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The keys and lineages, in their order.
    pub keyed: Vec<(Digest, Digest)>,
    stages: Vec<StageLine>,
    /// Stages whose keys are told, and those whose results are there.
    known: BTreeSet<String>,
    there: BTreeSet<String>,
    ended: Option<bool>,
}

/// What all runs recorded in `home` need, whichever store they used: a store may have been moved, or copied, since.
///
/// # Errors
/// The first thing that cannot be read, or that is no run's where only runs should be.
pub fn needs(home: &Path) -> Result<Needs, Unclear> {
    let unclear = |path: &Path, e: io::Error| Unclear { path: path.to_owned(), why: e.to_string(), run: None };
    let mut needs = Needs::default();
    for entry in fs::read_dir(home).map_err(|e| unclear(home, e))? {
        let entry = entry.map_err(|e| unclear(home, e))?;
        let (path, name) = (entry.path(), entry.file_name());
        let link = entry.file_type().map_err(|e| unclear(&path, e))?.is_symlink();
        let name = name.to_string_lossy();
        // Pointers to runs that lie beside them, and what an import has not finished.
        if (link && (name == "latest" || name.starts_with(".latest-"))) || name.starts_with(".import-") {
            continue;
        }
        if fs::metadata(&path).map_err(|e| unclear(&path, e))?.is_dir() {
            of_run(&RunFolder::of(path), &mut needs)?;
        }
    }
    Ok(needs)
}

/// Adds what one run needs.
fn of_run(run: &RunFolder, needs: &mut Needs) -> Result<(), Unclear> {
    let began = SystemTime::now();
    loop {
        let Err((path, why)) = try_run(run, needs) else { return Ok(()) };
        let young = run
            .path()
            .metadata()
            .and_then(|m| m.modified())
            .is_ok_and(|t| began.duration_since(t).map_or(true, |age| age < SETTLED) || is_alive(run));
        let waited = began.elapsed().unwrap_or(SETTLED);
        if young && waited < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        return Err(Unclear { path, why, run: Some(run.path().to_owned()) });
    }
}

/// Adds what one run needs, if that can be told.
fn try_run(run: &RunFolder, needs: &mut Needs) -> Result<(), (PathBuf, String)> {
    let log = run.events();
    let told = fs::File::open(&log).map_err(|e| e.to_string()).and_then(|file| read_log(BufReader::new(file)));
    let told = told.map_err(|why| (log.clone(), why))?;
    let kept = read_keys(&run.keys()).map_err(|why| (run.keys(), why))?;
    told.hold_against(kept.as_deref()).map_err(|why| (log, why))?;
    for (key, lineage) in told.keyed.into_iter().chain(kept.unwrap_or_default()).chain(of_jobs(run)) {
        needs.keys.insert(key);
        needs.lineages.insert(lineage);
    }
    Ok(())
}

/// Reads a run log, every line of it.
///
/// # Errors
/// What is wrong with it: it is empty, or cut; a line is damaged, or of a newer program; it does not begin as a log does.
pub fn read_log(mut log: impl BufRead) -> Result<Told, String> {
    let (mut told, mut line, mut number) = (Told::default(), Vec::new(), 0_usize);
    loop {
        line.clear();
        number += 1;
        (&mut log).take(LINE_LIMIT).read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
        match (line.last(), number) {
            (None, 1) => return Err("it is empty".to_owned()),
            (None, _) => return Ok(told),
            (Some(b'\n'), _) => {}
            (Some(_), _) => return Err(format!("it is cut in line {number}")),
        }
        let event = serde_json::from_slice::<Line>(&line)
            .map_err(|_| format!("line {number} is damaged, or was written by a newer program"))?
            .event;
        if (number == 1) != matches!(event, RunEvent::RunStarted(_)) {
            return Err(format!("line {number} is not what a log has there"));
        }
        told.take(event)?;
    }
}

impl Told {
    fn take(&mut self, event: RunEvent) -> Result<(), String> {
        match event {
            RunEvent::RunStarted(started) => {
                if started.format > FORMAT {
                    let found = started.format;
                    return Err(format!(
                        "its format is {found}, this program knows up to {FORMAT}: update the program"
                    ));
                }
                self.stages = started.stages;
            }
            RunEvent::Keyed { stage, key, lineage } => {
                self.keyed.push((key, lineage));
                self.known.insert(stage);
            }
            RunEvent::Hit { stage, .. } | RunEvent::Done { stage, .. } => {
                self.there.insert(stage);
            }
            RunEvent::RunEnded { ok, .. } => self.ended = Some(ok),
            _ => {}
        }
        Ok(())
    }

    /// Whether the log has lost lines, by what stands beside it. A log without keys beside it is an older program's, or
    /// was imported: then only what must have been written shows a loss.
    fn hold_against(&self, kept: Option<&[(Digest, Digest)]>) -> Result<(), String> {
        let lost = |what: String| Err(format!("lines of it are lost: {what}"));
        if let Some(kept) = kept {
            let ours: BTreeSet<_> = self.keyed.iter().collect();
            let theirs: BTreeSet<_> = kept.iter().collect();
            if let Some((key, _)) = ours.difference(&theirs).next() {
                return lost(format!("the key {} is in it and not in `keys`", key.short()));
            }
            // A kill may come between the two.
            if theirs.difference(&ours).count() > 1 {
                return lost(format!("`keys` beside it has {} keys, it has {}", theirs.len(), ours.len()));
            }
        }
        let open = |stage: &&StageLine| !self.known.contains(&stage.name);
        if self.ended == Some(true)
            && let Some(stage) = self.stages.iter().find(open)
        {
            return lost(format!("the run ended well, and the key of `{}` is not in it", stage.name));
        }
        let ready = |stage: &&StageLine| stage.needs.iter().all(|n| self.there.contains(n));
        if kept.is_none()
            && self.ended.is_none()
            && let Some(stage) = self.stages.iter().filter(open).find(ready)
        {
            return lost(format!("all that `{}` needs was there, and its key is not in it", stage.name));
        }
        Ok(())
    }
}

/// The keys that a run kept beside its log; nothing if it kept none.
fn read_keys(path: &Path) -> Result<Option<Vec<(Digest, Digest)>>, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("it is cut in its last line".to_owned());
    }
    let pair = |line: &str| {
        let (key, lineage) = line.split_once(' ')?;
        Some((key.parse().ok()?, lineage.parse().ok()?))
    };
    let pairs = text.lines().enumerate().map(|(n, line)| pair(line).ok_or(format!("line {} is damaged", n + 1)));
    pairs.collect::<Result<_, _>>().map(Some)
}

/// A line of `keys`.
pub(super) fn keys_line(key: &Digest, lineage: &Digest) -> String {
    format!("{key} {lineage}\n")
}

/// Keys of the stages that were started, from their jobs: no more than a second look, so what cannot be read is passed
/// over.
fn of_jobs(run: &RunFolder) -> Vec<(Digest, Digest)> {
    let field = |job: &Value, name: &str| job.get(name)?.as_str()?.parse().ok();
    let jobs = fs::read_dir(run.path().join("jobs")).into_iter().flatten().flatten();
    jobs.filter_map(|entry| {
        let job = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
        Some((field(&job, "key")?, field(&job, "lineage")?))
    })
    .collect()
}

/// The text of `keys` for a log that came without it.
#[must_use]
pub fn keys_of(told: &Told) -> String {
    let unique: BTreeMap<_, _> = told.keyed.iter().map(|(key, lineage)| (key, lineage)).collect();
    unique.into_iter().map(|(key, lineage)| keys_line(key, lineage)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runlog::{RunLog, RunStarted};

    fn stage(name: &str, needs: &[&str]) -> StageLine {
        StageLine { name: name.into(), kind: "k".into(), needs: needs.iter().map(ToString::to_string).collect() }
    }

    fn key(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// A run of two stages, as far as its `n`th event.
    fn run(home: &Path, n: usize) -> RunFolder {
        let folder = RunFolder::create(home, "r").unwrap();
        let mut log = RunLog::create(&folder).unwrap();
        let stages = vec![stage("a", &[]), stage("b", &["a"])];
        let keyed = |s: &str| RunEvent::Keyed { stage: s.into(), key: key(s), lineage: key(&format!("{s}'")) };
        let hit = |s: &str| RunEvent::Hit { stage: s.into(), saved_seconds: 1.0, outputs: BTreeMap::new() };
        let started = RunStarted { format: FORMAT, stages, ..RunStarted::default() };
        let events = [
            RunEvent::RunStarted(started),
            keyed("a"),
            hit("a"),
            keyed("b"),
            hit("b"),
            RunEvent::RunEnded { ok: true, seconds: 1.0 },
        ];
        events[..n].iter().for_each(|e| log.write(e).unwrap());
        drop(log);
        settle(&folder);
        folder
    }

    /// Nobody is beginning this run any more.
    fn settle(folder: &RunFolder) {
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        fs::File::open(folder.path()).unwrap().set_modified(long_ago).unwrap();
    }

    fn all() -> Needs {
        Needs { keys: [key("a"), key("b")].into(), lineages: [key("a'"), key("b'")].into() }
    }

    #[test]
    fn a_run_needs_all_its_keys_however_it_ended() {
        let home = tempfile::tempdir().unwrap();
        run(home.path(), 6);
        assert_eq!(needs(home.path()), Ok(all()));
        for killed in 1..6 {
            let home = tempfile::tempdir().unwrap();
            run(home.path(), killed);
            let found = needs(home.path()).unwrap();
            assert_eq!(found.keys.len(), killed / 2, "killed after event {killed}");
        }
        // Two links, a file of the user's, and what an import left.
        std::os::unix::fs::symlink("gone", home.path().join(".latest-7")).unwrap();
        fs::write(home.path().join("notes.txt"), "mine").unwrap();
        fs::create_dir(home.path().join(".import-x")).unwrap();
        assert_eq!(needs(home.path()), Ok(all()));
    }

    #[test]
    fn any_cut_or_flip_is_seen_or_costs_nothing() {
        let home = tempfile::tempdir().unwrap();
        let folder = run(home.path(), 6);
        for path in [folder.events(), folder.keys()] {
            let whole = fs::read(&path).unwrap();
            let check = |bytes: &[u8], how: &str| {
                fs::write(&path, bytes).unwrap();
                settle(&folder);
                match needs(home.path()) {
                    Ok(found) => {
                        let lost: Vec<_> = all().keys.difference(&found.keys).copied().collect();
                        assert!(lost.is_empty(), "{}: {how}", path.display());
                    }
                    Err(unclear) => assert_eq!(unclear.run.as_deref(), Some(folder.path()), "{how}"),
                }
            };
            for cut in (0..whole.len()).step_by(3).chain([whole.len() - 1]) {
                check(&whole[..cut], &format!("cut at {cut}"));
                let zeros: Vec<u8> = whole.iter().enumerate().map(|(i, b)| if i < cut { *b } else { 0 }).collect();
                check(&zeros, &format!("zeros from {cut}"));
            }
            for at in (0..whole.len()).step_by(2) {
                let mut bytes = whole.clone();
                bytes[at] ^= 1;
                check(&bytes, &format!("flip at {at}"));
            }
            let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
            for gone in 0..lines.len() {
                let mut fewer = lines.clone();
                fewer.remove(gone);
                check(&fewer.concat(), &format!("without line {gone}"));
            }
            fs::write(&path, &whole).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        type Harm = fn(&RunFolder);
        let harms: [(&str, Harm); 6] = [
            ("events.jsonl", |r| fs::write(r.events(), "").unwrap()),
            ("events.jsonl", |r| fs::remove_file(r.events()).unwrap()),
            ("events.jsonl", |r| {
                fs::remove_file(r.events()).unwrap();
                fs::create_dir(r.events()).unwrap();
            }),
            ("events.jsonl", |r| fs::write(r.events(), "{\"at\":1,\"event\":{\"warned\":{\"text\":\"\"}}}\n").unwrap()),
            ("keys", |r| fs::write(r.keys(), "rubbish\n").unwrap()),
            ("elsewhere", |r| std::os::unix::fs::symlink("gone", r.path().with_file_name("elsewhere")).unwrap()),
        ];
        for (name, harm) in harms {
            let home = tempfile::tempdir().unwrap();
            let folder = run(home.path(), 6);
            harm(&folder);
            settle(&folder);
            let unclear = needs(home.path()).unwrap_err();
            assert!(unclear.path.ends_with(name), "{unclear:?}");
        }
        let home = tempfile::tempdir().unwrap();
        assert!(needs(&home.path().join("none")).is_err());
        fs::write(home.path().join("file"), "").unwrap();
        assert!(needs(&home.path().join("file")).is_err());
    }

    /// A log of an older program has no keys beside it: what it must have is looked for.
    #[test]
    fn an_older_log_that_lost_lines_is_seen_where_it_can_be() {
        for (events, told) in [(6, true), (5, true), (4, true), (3, false), (2, true), (1, false)] {
            let home = tempfile::tempdir().unwrap();
            let folder = run(home.path(), events);
            fs::remove_file(folder.keys()).unwrap();
            settle(&folder);
            assert_eq!(needs(home.path()).is_ok(), told, "{events} events");
        }
    }
}
