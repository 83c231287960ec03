//! `opdflow import`: a run that `export` put into one file, taken into this store.
//!
//! All of it or nothing: the archive is read to its end, and the records of its runs are laid ready, before the store is
//! written to.

use crate::cli::args::Opdflow;
use crate::cli::{Exit, Failure, Session, args};
use crate::plan::{Plan, key};
use crate::recipe::{self, Diagnostics, Overrides};
use crate::render::{bytes, quoted};
use crate::runlog::{self, RunEvent, RunFolder, RunStarted};
use clap::Parser as _;
use opdflow_cache::{Archive, Digest, Host, Memo, Store, StoreError, TakenIn};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

pub(crate) fn run(session: &Session, args: &args::Import) -> Result<Exit, Failure> {
    // The store knows bytes only; that a record is what its key says is for us to see.
    let archive = Archive::open_with(&args.archive, &mut |record| match key::of_manifest(&record.manifest) {
        Some(key) if key == record.key => Ok(()),
        _ => Err(format!("the record of {} was made for another key", record.key.short())),
    })?;
    let runs = names(&archive).map_err(|why| StoreError::Archive { path: args.archive.clone(), why })?;
    let home = RunFolder::home(&args.run_dir);
    let there = home.exists();
    let take_in = || -> Result<TakenIn, Failure> {
        let staged = stage(&archive, &args.archive, &runs, &home)?;
        let store = session.open()?;
        let _in_use = store.shared()?;
        let taken = store.take_in(&archive)?;
        staged.into_iter().try_for_each(Staged::install)?;
        Ok(taken)
    };
    let taken = take_in().inspect_err(|_| {
        // Only what is empty goes.
        if !there {
            let _ = fs::remove_dir(&home).and_then(|()| fs::remove_dir(&args.run_dir));
        }
    })?;
    let runs: Vec<PathBuf> = runs.iter().map(|name| home.join(name)).collect();
    tell(session, args, &archive, &taken, &runs);
    Ok(Exit::Done)
}

fn tell(session: &Session, args: &args::Import, archive: &Archive, taken: &TakenIn, runs: &[PathBuf]) {
    let shown: Vec<String> = runs.iter().map(|run| run.display().to_string()).collect();
    if session.json {
        let attempts: BTreeMap<String, u32> = taken.attempts.iter().map(|(k, n)| (k.to_string(), *n)).collect();
        let all = json!({"new": taken.new, "same": taken.same, "attempts": attempts,
            "checkpoints": taken.checkpoints, "bytes": taken.bytes, "runs": shown});
        session.print(&all.to_string());
        return;
    }
    if session.quiet {
        return;
    }
    let all = archive.keys().len();
    let (new, same, size) = (taken.new.len(), taken.same.len(), bytes(taken.bytes));
    session.note(&format!("{all} results: {new} new, {same} known; {size} written"));
    for (key, n) in &taken.attempts {
        let short = key.short();
        session.note(&format!(
            "{short} has another result here, which stays in use; that of the archive is kept as attempt {n}"
        ));
    }
    for (run, shown) in runs.iter().zip(shown) {
        session.note(&format!("recorded as {shown}; {}", way_on(session, args, run)));
    }
}

/// The names of the runs whose records are in the archive.
fn names(archive: &Archive) -> Result<Vec<String>, String> {
    let mut names: BTreeMap<&str, bool> = BTreeMap::new();
    for path in archive.files() {
        let Some((name, rest)) = path.split_once('/') else {
            return Err(format!("`{}` is no part of a run's records", path.escape_debug()));
        };
        if name.starts_with('.') || name == "latest" || path.chars().any(char::is_control) {
            return Err(format!("`{}` is not the name of a run", name.escape_debug()));
        }
        *names.entry(name).or_default() |= rest == "events.jsonl";
    }
    match names.iter().find(|(_, logged)| !**logged) {
        Some((name, _)) => Err(format!("the run `{name}` has no log in it")),
        None => Ok(names.into_keys().map(ToOwned::to_owned).collect()),
    }
}

/// A run's records beside the place where they belong. Dropped, they are removed. They are locked meanwhile, so that the
/// next import can tell what a killed one left.
struct Staged {
    fresh: PathBuf,
    folder: PathBuf,
    _lock: File,
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.fresh);
    }
}

/// How the folders of records that are laid ready are called.
const STAGED: &str = ".import-";

impl Staged {
    fn new(home: &Path, name: &str) -> io::Result<Self> {
        for n in 0.. {
            let fresh = home.join(format!("{STAGED}{}-{}-{n}-{name}", Host::this().tag, std::process::id()));
            match fs::create_dir(&fresh) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other?,
            }
            let lock = File::open(&fresh);
            // Another import may have taken it for a dead one's, before the lock.
            // A file system without locks leaves it to its users to remove what a kill left.
            if let Ok(lock) = lock
                && !matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
                && same(&lock, &fresh)
            {
                return Ok(Self { fresh, folder: home.join(name), _lock: lock });
            }
        }
        Err(io::Error::other("no free name"))
    }

    /// Gives the records their name, unless the run came meanwhile: one that is there stays as it is.
    fn install(self) -> Result<(), Failure> {
        match fs::rename(&self.fresh, &self.folder) {
            Err(e) if !self.folder.exists() => Err(failed(&self.folder, &e)),
            _ => Ok(()),
        }
    }
}

fn same(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Store(format!("cannot write {}: {error}", path.display()))
}

/// Removes what imports left here that were killed. Of another host's the lock may not be seen: they stay.
fn clear(home: &Path) {
    let here = Host::this().tag;
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        // Older programs named no host: their names go on with the number of a process, which has seven digits at most.
        let tag = name.strip_prefix(STAGED).and_then(|rest| rest.split('-').next());
        let staged = tag.is_some_and(|tag| tag == here || tag.len() != here.len());
        if staged
            && entry.file_type().is_ok_and(|t| t.is_dir())
            && let Ok(lock) = File::open(&path)
            && lock.try_lock().is_ok()
            && same(&lock, &path)
        {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Lays the records of the runs ready, those that are not there yet, and reads their logs.
fn stage(archive: &Archive, at: &Path, runs: &[String], home: &Path) -> Result<Vec<Staged>, Failure> {
    fs::create_dir_all(home).map_err(|e| failed(home, &e))?;
    clear(home);
    let mut staged = BTreeMap::new();
    for name in runs.iter().filter(|name| !home.join(name).exists()) {
        let fresh = Staged::new(home, name).map_err(|e| failed(home, &e))?;
        staged.insert(name.as_str(), fresh);
    }
    archive.each_file(&mut |path, from| {
        let Some((name, rest)) = path.split_once('/') else { return Ok(()) };
        let Some(run) = staged.get(name) else { return Ok(()) };
        let to = run.fresh.join(rest);
        let mut write = || {
            fs::create_dir_all(to.parent().unwrap_or(&run.fresh))?;
            io::copy(from, &mut File::create_new(&to)?)
        };
        write().map(drop).map_err(|source| StoreError::Io { op: "write", path: to.clone(), source })
    })?;
    for (name, run) in &staged {
        let folder = RunFolder::of(run.fresh.clone());
        let log = File::open(folder.events()).map_err(|e| failed(&folder.events(), &e))?;
        let told = runlog::read_log(BufReader::new(log)).map_err(|why| StoreError::Archive {
            path: at.to_owned(),
            why: format!("the log of the run `{name}`: {why}"),
        })?;
        fs::write(folder.keys(), runlog::keys_of(&told)).map_err(|e| failed(&folder.keys(), &e))?;
    }
    Ok(staged.into_values().collect())
}

/// How the run goes on from here: a command that was tried as far as a plan, or why there is none.
fn way_on(session: &Session, args: &args::Import, run: &Path) -> String {
    let Some(started) = first_event(run) else { return "its log says nothing".to_owned() };
    let overrides = overrides(&started, run);
    let command = |recipe: &Path| {
        let mut words = vec!["opdflow".to_owned(), "run".to_owned(), quoted(&recipe.display().to_string())];
        for file in &overrides.files {
            words.extend(["--vars".to_owned(), quoted(&file.display().to_string())]);
        }
        for (name, value) in &overrides.vars {
            words.extend(["--set".to_owned(), quoted(&format!("{name}={value}"))]);
        }
        words.extend(overrides.seed.map(|seed| format!("--seed {seed}")));
        if session.store != Store::default_root() {
            words.extend(["--store".to_owned(), quoted(&session.store.display().to_string())]);
        }
        if args.run_dir != Path::new(".opdflow") {
            words.extend(["--run-dir".to_owned(), quoted(&args.run_dir.display().to_string())]);
        }
        words.join(" ")
    };
    let copy = run.join("recipe.yaml");
    let trouble = match planned(session, &copy, &overrides) {
        Ok(()) => return format!("`{}` goes on from there", command(&copy)),
        Err(found) => found,
    };
    // Paths in a recipe start where it lies: perhaps it still lies where it was.
    let original = Path::new(&started.path);
    if fs::read(original).is_ok_and(|text| Some(Digest::of(&text)) == started.text)
        && planned(session, original, &overrides).is_ok()
    {
        return format!("`{}` goes on from there", command(original));
    }
    let first = trouble.list.first().map_or_else(String::new, |d| format!(": {}, {}", d.title, d.label));
    let (faults, _) = trouble.counts();
    let missing = trouble.list.iter().all(|d| d.code == "E050");
    let why = if missing { "files that an archive does not hold are missing" } else { "its recipe cannot be planned" };
    format!(
        "{why} ({faults}{first}); put {} into a folder from which its paths lead to them, as {} was, and give `{}` there",
        copy.display(),
        started.path,
        command(Path::new("recipe.yaml"))
    )
}

fn first_event(run: &Path) -> Option<RunStarted> {
    let log = runlog::read(&RunFolder::of(run.to_owned())).ok()?;
    log.lines.into_iter().find_map(|line| match line.event {
        RunEvent::RunStarted(started) => Some(started),
        _ => None,
    })
}

/// What the run's command line changed in its recipe. Its files of variables lie beside the recipe.
fn overrides(started: &RunStarted, run: &Path) -> Overrides {
    let Ok(given) = Opdflow::try_parse_from(&started.argv) else { return Overrides::default() };
    Overrides {
        files: (1..=given.global.vars.len()).map(|n| run.join(format!("vars-{n}.yaml"))).collect(),
        vars: given.global.set.into_iter().collect(),
        seed: given.global.seed,
    }
}

fn planned(session: &Session, recipe: &Path, overrides: &Overrides) -> Result<(), Diagnostics> {
    let recipe = recipe::load(recipe, &session.registry, overrides)?;
    let memo = Memo::of(&session.store);
    let plan = Plan::survey(recipe, session.facts.clone(), &memo);
    memo.save();
    plan.whole(&plan.meant())
}
