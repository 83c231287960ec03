//! The store's folder: opening it, and where everything lies in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use crate::files::disk;
use crate::hosts::life::Life;
use crate::hosts::watch::Watches;
use crate::{Digest, Setting, StoreError, Warning};

/// The newest layout that this program reads and writes.
pub const STORE_FORMAT: u32 = 1;

/// A store on disk. Cheap to clone; clones share one list of warnings.
///
/// Any number of processes may use one store at the same time. Each should hold [`Store::shared`] while it does, so
/// that [`Store::gc`] never sweeps under its feet.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// The root, open: another folder in its place is another store, and cannot get its inode while this is held.
    folder: Arc<File>,
    warnings: Mutex<Vec<Warning>>,
    setting: Setting,
    /// The signs of this process' life that are kept up now.
    lives: Mutex<Vec<Weak<Life>>>,
    /// What was seen of other processes.
    watches: Watches,
}

impl Store {
    /// Opens the store at `root`, creating it if there is nothing. The folder of a new store is its owner's alone
    /// (mode 0700); a folder that is there keeps its mode.
    ///
    /// Fails if the place cannot be written to, was made by a newer program, or holds something else.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        Store::open_as(root, Setting::of_environment()?)
    }

    /// As [`Store::open`], with something else than what the environment says.
    pub fn open_as(root: &Path, setting: Setting) -> Result<Store, StoreError> {
        let unwritable = |e: StoreError| match e {
            StoreError::Io { path, source, .. } => StoreError::Unwritable { path, source },
            other => other,
        };
        disk::make_private_dir(root).map_err(unwritable)?;
        let store = Store::at(root, setting)?;
        store.settle().map_err(unwritable)?;
        // The one honest test of whether a place can be written to is to write.
        disk::temp_file(&store.tmp(), 0o600).map_err(unwritable)?;
        Ok(store)
    }

    /// Opens the store at `root`, which must be there: for the processes of a run, which never begin a store anew where
    /// the run's was deleted.
    pub fn reopen(root: &Path) -> Result<Store, StoreError> {
        let gone = || StoreError::Gone { path: root.to_owned() };
        if !root.join("version").exists() {
            return Err(gone());
        }
        Store::open(root)
    }

    fn at(root: &Path, setting: Setting) -> Result<Store, StoreError> {
        // The working folder may change later, and child processes have their own: keep a path that stays true.
        let root = root.canonicalize().map_err(|e| StoreError::io("read", root, e))?;
        let folder = File::open(&root).map_err(|e| StoreError::io("read", &root, e))?;
        let folder = Arc::new(folder);
        let (warnings, lives, watches) = (Mutex::default(), Mutex::default(), Watches::default());
        Ok(Store { inner: Arc::new(Inner { root, folder, warnings, setting, lives, watches }) })
    }

    /// Whether the store that was opened is still there, and no other in its place.
    ///
    /// # Errors
    /// [`StoreError::Gone`] if it is not.
    pub fn still_there(&self) -> Result<(), StoreError> {
        if disk::still_there(&self.inner.folder, self.root()) && self.root().join("version").exists() {
            return Ok(());
        }
        Err(StoreError::Gone { path: self.root().to_owned() })
    }

    /// Creates a folder in the store, and those it lies in, but never the store itself: half a store would be none.
    pub(crate) fn make_dir(&self, dir: &Path) -> Result<(), StoreError> {
        if dir.is_dir() {
            return Ok(());
        }
        self.still_there()?;
        let parent = dir.parent().filter(|p| p.starts_with(self.root())).unwrap_or(self.root());
        if parent != self.root() {
            self.make_dir(parent)?;
        }
        match fs::create_dir(dir) {
            Ok(()) => disk::sync_dir(parent),
            // Another process was faster.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            Err(e) => Err(self.still_there().err().unwrap_or_else(|| StoreError::io("create the folder", dir, e))),
        }
    }

    /// After a store was deleted under the running action `key`: removes what the action has made again of it. A store
    /// that was begun anew meanwhile is left alone.
    pub fn clear_remains(&self, key: &Digest) {
        let root = self.root();
        if root.join("version").exists() {
            return;
        }
        // The work folder is the action's own; the others go only if they are empty. Best effort: what stays is taken for
        // the rest of a store at the next opening.
        let _ = fs::remove_dir_all(root.join("work").join(key.to_string()));
        let _ = fs::remove_dir(root.join("work"));
        let _ = fs::remove_dir(root);
    }

    /// `$OPDFLOW_STORE`, else `$XDG_CACHE_HOME/opdflow`, else `~/.cache/opdflow`; without a home, `.opdflow/store`.
    pub fn default_root() -> PathBuf {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(root) = var("OPDFLOW_STORE") {
            return root;
        }
        // The XDG rules say to ignore a relative path here.
        if let Some(cache) = var("XDG_CACHE_HOME").filter(|p| p.is_absolute()) {
            return cache.join("opdflow");
        }
        match var("HOME") {
            Some(home) => home.join(".cache").join("opdflow"),
            None => PathBuf::from(".opdflow").join("store"),
        }
    }

    /// The store's folder, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Bytes that may still be written where the store lies; none where the system does not tell.
    #[must_use]
    pub fn free(&self) -> Option<u64> {
        Self::free_at(self.root())
    }

    /// Bytes that may still be written in a folder in which a store would lie.
    #[must_use]
    pub fn free_at(folder: &Path) -> Option<u64> {
        crate::files::disk::free(folder)
    }

    /// Takes the warnings gathered since the last call.
    pub fn warnings(&self) -> Vec<Warning> {
        std::mem::take(&mut *self.inner.warnings.lock().unwrap_or_else(|e| e.into_inner()))
    }

    pub(crate) fn warn(&self, path: &Path, what: impl Into<String>, aside: Option<PathBuf>) {
        let warning = Warning { path: path.to_owned(), what: what.into(), aside };
        self.inner.warnings.lock().unwrap_or_else(|e| e.into_inner()).push(warning);
    }

    /// Which host this process is on, and what keeps others out.
    pub fn setting(&self) -> &Setting {
        &self.inner.setting
    }

    pub(crate) fn lives(&self) -> &Mutex<Vec<Weak<Life>>> {
        &self.inner.lives
    }

    pub(crate) fn watches(&self) -> &Watches {
        &self.inner.watches
    }

    /// The root, open, for a thread that must know whether it is still there.
    pub(crate) fn root_folder(&self) -> Arc<File> {
        self.inner.folder.clone()
    }

    /// The folder in which the action `key` is computed, created if it is not there. It may hold what an earlier,
    /// broken attempt left. See [`Store::work_of`] for one that nobody else can have.
    pub fn work_dir(&self, key: &Digest) -> Result<PathBuf, StoreError> {
        let dir = self.root().join("work").join(key.to_string());
        self.make_dir(&dir)?;
        Ok(dir)
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root().join("tmp")
    }

    /// `blobs/ab/cdef...`: 256 folders keep each one small.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let text = digest.to_string();
        let (shard, rest) = text.split_at(2);
        self.root().join("blobs").join(shard).join(rest)
    }

    /// `actions/ab/<key>.json`, or `.attempt-<n>.json` from the second attempt on.
    pub(crate) fn action_path(&self, key: &Digest, attempt: u32) -> PathBuf {
        let text = key.to_string();
        let name = if attempt < 2 { format!("{text}.json") } else { format!("{text}.attempt-{attempt}.json") };
        self.root().join("actions").join(&text[..2]).join(name)
    }

    /// Moves something damaged out of the way; never deletes it. The new place, or nothing if it cannot be moved
    /// (or is gone already).
    pub(crate) fn set_aside(&self, path: &Path) -> Option<PathBuf> {
        let name = path.strip_prefix(self.root()).unwrap_or(path).to_string_lossy().replace('/', "-");
        let damaged = self.root().join("damaged");
        for n in 0..1000 {
            let aside = damaged.join(if n == 0 { name.clone() } else { format!("{name}.{n}") });
            match disk::rename(path, &aside, disk::Taken::Refuse) {
                Ok(()) => {
                    // Best effort: if the power goes before this is durable, the damage is found again.
                    let _ = disk::sync_dir(&damaged);
                    return Some(aside);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) => return None,
            }
        }
        None
    }
}
