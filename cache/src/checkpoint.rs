//! The newest whole states of something unfinished.
//!
//! ```text
//! checkpoints/<lineage>/step-0000000120/manifest.json   digests of all files, sealed
//! checkpoints/<lineage>/step-0000000120/files/...       what the stage wrote
//! checkpoints/<lineage>/lock                            held while one is saved
//! checkpoints/<lineage>/part-of-<host>-<token>-...      being written by that process, or left by a kill
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::files::disk::{self, list};
use crate::files::failpoint::failpoint;
use crate::files::put::walk;
use crate::files::sealed;
use crate::hosts::life::Role;
use crate::lock::{Got, Want, open};
use crate::{Digest, Lease, Store, StoreError, Tenure, TreeEntry};

/// The checkpoints of one lineage. Any key of the lineage may go on from them.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    store: Store,
    lineage: Digest,
    dir: PathBuf,
    tenure: Option<Arc<Tenure>>,
}

/// A whole, verified state.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// How many steps are done.
    pub step: u64,
    /// The folder with the files that the stage wrote. Read it; do not write to it.
    pub path: PathBuf,
    /// Seconds of work that lie in it, as told to [`Checkpoints::save`].
    pub elapsed_seconds: f64,
    /// The files, sorted by path.
    pub files: Vec<TreeEntry>,
}

/// Saving failed: in the caller's writing, or in the store.
#[derive(Debug, thiserror::Error)]
pub enum SaveError<E> {
    /// What the given closure returned. The checkpoints are as before.
    #[error(transparent)]
    Write(E),
    /// The store's own trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    lineage: Digest,
    step: u64,
    elapsed_seconds: f64,
    files: Vec<TreeEntry>,
}

const FORMAT: u32 = 1;

/// Why a checkpoint could not be loaded.
enum Trouble {
    /// It is damaged: what is wrong with it.
    Damaged(String),
    /// It may be whole, but the file system would not say.
    Unknown(StoreError),
}

impl Store {
    /// The checkpoints of a lineage.
    pub fn checkpoints(&self, lineage: &Digest) -> Checkpoints {
        let dir = self.folder("checkpoints").join(lineage.to_string());
        Checkpoints { store: self.clone(), lineage: *lineage, dir, tenure: None }
    }
}

impl Checkpoints {
    /// The same, but nothing is saved any more once this lease is lost to another host.
    #[must_use]
    pub fn under(mut self, lease: &Lease) -> Checkpoints {
        self.tenure = Some(lease.tenure());
        self
    }

    /// The newest whole checkpoint. Every byte of it was verified; damaged ones are moved aside with a warning.
    pub fn head(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.at_most(u64::MAX)
    }

    /// The newest whole checkpoint of at most `step` steps: where a run with that horizon can go on from.
    pub fn at_most(&self, step: u64) -> Result<Option<Checkpoint>, StoreError> {
        let mut steps = self.steps()?;
        loop {
            for found in steps.iter().rev().filter(|s| **s <= step) {
                if let Some(checkpoint) = self.sound(*found, true)? {
                    return Ok(Some(checkpoint));
                }
            }
            // All that were listed may have been dropped for newer ones meanwhile. Ends when nothing has changed.
            let now = self.steps()?;
            if now == steps {
                return Ok(None);
            }
            steps = now;
        }
    }

    /// All checkpoints that look whole (their manifest is, and every file has its size), the oldest first.
    pub fn list(&self) -> Vec<Checkpoint> {
        self.steps().unwrap_or_default().into_iter().filter_map(|step| self.load(step, false).ok().flatten()).collect()
    }

    /// Saves a checkpoint: `write` fills an empty folder, then everything is made durable and gets its name in one
    /// step. After that, of the checkpoints up to this one all but the last `keep` (at least 1) are dropped; those of
    /// a longer run of the same lineage stay. A kill at any moment leaves the checkpoints before, or with this one.
    ///
    /// `elapsed_seconds` is the work that lies in it, all earlier attempts included.
    pub fn save<E>(
        &self,
        step: u64,
        elapsed_seconds: f64,
        keep: usize,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Checkpoint, SaveError<E>> {
        let invalid = |why: String| StoreError::Invalid { what: format!("the checkpoint of step {step}"), why };
        if !is_time(elapsed_seconds) {
            return Err(invalid(format!("{elapsed_seconds} seconds is not a time")).into());
        }
        self.held()?;
        self.store.make_dir(&self.dir)?;
        let lock = self.lock()?;
        // Parts have the name of who writes them: those of other hosts know nothing of our lock.
        let life = self.store.life(Role::Lives, lock.is_some())?;
        let me = life.as_ref().map(|life| &life.user);
        self.clear_parts(lock.is_some(), me.map(|me| me.token.as_str()));
        let part = tempfile::Builder::new()
            .prefix(&me.map_or_else(|| "part-".to_owned(), |me| format!("part-of-{}-{}-", me.host_id, me.token)))
            .tempdir_in(&self.dir)
            .map_err(|e| StoreError::io("write in", &self.dir, e))?;
        let files = part.path().join("files");
        fs::create_dir(&files).map_err(|e| StoreError::io("create", &files, e))?;
        self.step_point("checkpoint-start")?;
        write(&files).map_err(SaveError::Write)?;
        self.step_point("checkpoint-written")?;
        let manifest =
            Manifest { format: FORMAT, lineage: self.lineage, step, elapsed_seconds, files: digests(&files)? };
        if manifest.files.is_empty() {
            return Err(invalid("it holds no file, so nothing could go on from it".to_owned()).into());
        }
        self.seal(part.path(), &manifest)?;
        self.step_point("checkpoint-synced")?;
        let dest = self.step_dir(step);
        // Whoever has the lease now goes on from what is there, and may have seen what is further on than this.
        self.held()?;
        self.install(part.path(), &dest)?;
        self.step_point("checkpoint-renamed")?;
        disk::sync_dir(&self.dir)?;
        self.drop_old(step, keep);
        let Manifest { files, .. } = manifest;
        Ok(Checkpoint { step, path: dest.join("files"), elapsed_seconds, files })
    }

    /// The folder of the lineage's checkpoints.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Looks at every checkpoint, moves damaged ones aside, and says how many are whole.
    pub(crate) fn verify(&self, deep: bool) -> Result<u64, StoreError> {
        let mut whole = 0;
        for step in self.steps()? {
            whole += u64::from(self.sound(step, deep)?.is_some());
        }
        Ok(whole)
    }

    /// The newest checkpoint, held: its files have second names in a folder of ours, so that they can be read when the
    /// checkpoint itself is dropped meanwhile, because newer ones were saved. The folder's files are named by their place
    /// among the checkpoint's files.
    pub(crate) fn held_head(&self) -> Result<Option<(Checkpoint, tempfile::TempDir)>, StoreError> {
        // Ends: each turn but the last needs a save that was made meanwhile.
        loop {
            let Some(head) = self.head()? else { return Ok(None) };
            let tmp = self.store.tmp();
            let held = tempfile::Builder::new()
                .prefix("held-")
                .tempdir_in(&tmp)
                .map_err(|e| StoreError::io("write in", &tmp, e))?;
            // Open, so that no other folder can get its inode.
            let Ok(folder) = File::open(self.step_dir(head.step)) else { continue };
            if self.load(head.step, false).ok().flatten().as_ref() != Some(&head) {
                // Another one of its step, or none.
                continue;
            }
            let linked = head.files.iter().enumerate().try_for_each(|(n, file)| {
                let (from, to) = (head.path.join(&file.path), held.path().join(n.to_string()));
                // A file system without second names gets copies.
                fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))
            });
            match linked {
                _ if !disk::still_there(&folder, &self.step_dir(head.step)) => {}
                Ok(()) => return Ok(Some((head, held))),
                Err(e) => return Err(StoreError::io("read", &head.path, e)),
            }
        }
    }

    fn step_dir(&self, step: u64) -> PathBuf {
        self.dir.join(format!("step-{step:010}"))
    }

    /// Steps that have a folder, the lowest first.
    fn steps(&self) -> Result<Vec<u64>, StoreError> {
        let number = |path: PathBuf| path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok();
        let mut steps: Vec<u64> = list(&self.dir)?.into_iter().filter_map(number).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    fn step_point(&self, name: &str) -> Result<(), StoreError> {
        failpoint(name).map_err(|e| StoreError::io("write", &self.dir, e))
    }

    fn held(&self) -> Result<(), StoreError> {
        self.tenure.as_ref().map_or(Ok(()), |tenure| tenure.check())
    }

    /// One saver of this host at a time, so that whatever part of one lies about while we hold this was left by a kill. Nothing
    /// where there are no locks.
    fn lock(&self) -> Result<Option<File>, StoreError> {
        let path = self.dir.join("lock");
        match self.store.lock_file(open(&path)?, &path, Want::Exclusive, true)? {
            Got::Lock(file) => Ok(Some(file)),
            Got::None | Got::Busy => Ok(None),
        }
    }

    /// Removes the parts that nobody writes any more: those of this host, and of older programs, where the lock says so;
    /// those of the process `me`; and those of whom no sign is seen any more.
    fn clear_parts(&self, locked: bool, me: Option<&str>) {
        for path in list(&self.dir).unwrap_or_default() {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let Some(rest) = name.strip_prefix("part-") else { continue };
            let mut words = rest.strip_prefix("of-").unwrap_or_default().split('-');
            let (host, token) = (words.next().unwrap_or_default(), words.next());
            let here = locked && host == self.store.setting().host.id;
            if here || token.is_none_or(|token| Some(token) == me || self.store.is_gone(host, token)) {
                // Best effort: what stays only takes room, and is tried again next time.
                let _ = fs::remove_dir_all(&path);
            }
        }
    }

    fn seal(&self, part: &Path, manifest: &Manifest) -> Result<(), StoreError> {
        let path = part.join("manifest.json");
        let text = sealed::seal(manifest).map_err(|e| StoreError::io("write", &path, e.into()))?;
        fs::write(&path, text).map_err(|e| StoreError::io("write", &path, e))?;
        disk::sync_below(part)
    }

    /// Over an older checkpoint of the same step, if there is one; it is swapped out in one step.
    fn install(&self, part: &Path, dest: &Path) -> Result<(), StoreError> {
        match disk::rename(part, dest, disk::Taken::Refuse) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => disk::rename(part, dest, disk::Taken::Swap),
            other => other,
        }
        .map_err(|e| StoreError::io("write", dest, e))
    }

    fn drop_old(&self, newest: u64, keep: usize) {
        let steps: Vec<u64> = self.steps().unwrap_or_default().into_iter().filter(|s| *s <= newest).collect();
        for step in steps.iter().take(steps.len().saturating_sub(keep.max(1))) {
            // Renamed first: a half-removed checkpoint must not be found under its name.
            let part = self.dir.join(format!("part-old-{step}"));
            if fs::rename(self.step_dir(*step), &part).is_ok() {
                let _ = fs::remove_dir_all(&part);
            }
        }
    }

    /// The checkpoint if it is whole. A damaged one is moved aside; nothing then, or if it is gone or of a newer format.
    fn sound(&self, step: u64, deep: bool) -> Result<Option<Checkpoint>, StoreError> {
        match self.load(step, deep) {
            Ok(found) => return Ok(found),
            Err(Trouble::Unknown(e)) => return Err(e),
            Err(Trouble::Damaged(_)) => {}
        }
        // Once more, while nobody saves: a new checkpoint of this step must not be moved aside for the old one's sake.
        // A place without locks, or one that is gone, is no reason to serve what is damaged.
        let _lock = self.lock().ok();
        match self.load(step, deep) {
            Ok(found) => Ok(found),
            Err(Trouble::Unknown(e)) => Err(e),
            Err(Trouble::Damaged(why)) => {
                let path = self.step_dir(step);
                let aside = self.store.set_aside(&path);
                let what = format!("damaged checkpoint: {why}; an earlier one is used if there is one");
                self.store.warn(&path, what, aside);
                Ok(None)
            }
        }
    }

    /// The checkpoint; nothing if it is gone or of a newer format.
    ///
    /// It may be dropped, or another one of its step put in its place, while it is looked at. It then has another name
    /// before the first of its files goes, so that trouble counts only if the folder is the same before and after.
    fn load(&self, step: u64, deep: bool) -> Result<Option<Checkpoint>, Trouble> {
        loop {
            let id = disk::identity(&self.step_dir(step));
            let found = if id.is_none() { Ok(None) } else { self.examine(step, deep) };
            if found.is_ok() || disk::identity(&self.step_dir(step)) == id {
                return found;
            }
        }
    }

    fn examine(&self, step: u64, deep: bool) -> Result<Option<Checkpoint>, Trouble> {
        let damaged = |why: String| Err(Trouble::Damaged(why));
        let dir = self.step_dir(step);
        let path = dir.join("manifest.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return damaged("it has no manifest".to_owned());
            }
            Err(e) => return Err(unreadable(&path, e)),
        };
        let value = sealed::unseal(&bytes).map_err(Trouble::Damaged)?;
        if value.get("format").and_then(|f| f.as_u64()).is_some_and(|f| f > FORMAT.into()) {
            self.store.warn(&path, "the checkpoint's format is newer than this program: not used", None);
            return Ok(None);
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|e| Trouble::Damaged(e.to_string()))?;
        if manifest.lineage != self.lineage || manifest.step != step {
            return damaged("it belongs elsewhere".to_owned());
        }
        if !is_time(manifest.elapsed_seconds) {
            return damaged(format!("{} seconds is not a time", manifest.elapsed_seconds));
        }
        if manifest.files.is_empty() {
            return damaged("it holds no file".to_owned());
        }
        crate::tree::apart(manifest.files.iter().map(|f| f.path.as_str())).map_err(Trouble::Damaged)?;
        let files = dir.join("files");
        for file in &manifest.files {
            let path = files.join(&file.path);
            let size = fs::symlink_metadata(&path).ok().filter(|m| m.is_file()).map(|m| m.len());
            if size != Some(file.size) {
                return damaged(format!("`{}` has not its {} bytes", file.path, file.size));
            }
            if deep {
                let digest = File::open(&path).and_then(|mut f| Digest::of_reader(&mut f));
                if digest.map_err(|e| unreadable(&path, e))?.0 != file.digest {
                    return damaged(format!("`{}` has other bytes", file.path));
                }
            }
        }
        let Manifest { elapsed_seconds, files: entries, .. } = manifest;
        Ok(Some(Checkpoint { step, path: files, elapsed_seconds, files: entries }))
    }
}

/// Whether a number of seconds can be what a work took.
pub(crate) fn is_time(seconds: f64) -> bool {
    seconds.is_finite() && seconds >= 0.0
}

/// A disk that cannot give the bytes back has damaged them; any other trouble may pass.
fn unreadable(path: &Path, error: io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(libc::EIO) => Trouble::Damaged(format!("{} cannot be read: {error}", path.display())),
        _ => Trouble::Unknown(StoreError::io("read", path, error)),
    }
}

fn digests(dir: &Path) -> Result<Vec<TreeEntry>, StoreError> {
    let mut files = Vec::new();
    walk(dir, "", &mut files)?;
    files.sort_unstable();
    files
        .into_iter()
        .map(|(name, path)| {
            let size = fs::metadata(&path).map_err(|e| StoreError::io("read", &path, e))?.len();
            Ok(TreeEntry { path: name, digest: Digest::of_file(&path)?, size })
        })
        .collect()
}
