//! The store's folder: opening it, and where everything lies in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::disk;
use crate::failpoint::failpoint;
use crate::{Digest, StoreError, Warning};

/// The newest layout that this program reads and writes.
pub const STORE_FORMAT: u32 = 1;

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
# This folder is a cache made by opdflow. Backup programs may skip it.\n\
# For information about cache directory tags, see https://bford.info/cachedir/\n";

const FOLDERS: [&str; 8] = ["blobs", "actions", "leases", "checkpoints", "pins", "work", "tmp", "damaged"];

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
    warnings: Mutex<Vec<Warning>>,
}

impl Store {
    /// Opens the store at `root`, creating it if there is nothing.
    ///
    /// Fails if the place cannot be written to, was made by a newer program, or holds something else.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        let unwritable = |e: StoreError| match e {
            StoreError::Io { path, source, .. } => StoreError::Unwritable { path, source },
            other => other,
        };
        disk::make_dir(root).map_err(unwritable)?;
        // The working folder may change later, and child processes have their own: keep a path that stays true.
        let root = root.canonicalize().map_err(|e| StoreError::io("read", root, e))?;
        let store = Store { inner: Arc::new(Inner { root, warnings: Mutex::default() }) };
        store.settle()?;
        // The one honest test of whether a place can be written to is to write.
        disk::temp_file(&store.tmp(), 0o600).map_err(unwritable)?;
        Ok(store)
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
        crate::disk::free(self.root())
    }

    /// Takes the warnings gathered since the last call.
    pub fn warnings(&self) -> Vec<Warning> {
        std::mem::take(&mut *self.inner.warnings.lock().unwrap_or_else(|e| e.into_inner()))
    }

    pub(crate) fn warn(&self, path: &Path, what: impl Into<String>, aside: Option<PathBuf>) {
        let warning = Warning { path: path.to_owned(), what: what.into(), aside };
        self.inner.warnings.lock().unwrap_or_else(|e| e.into_inner()).push(warning);
    }

    /// The folder in which the action `key` is computed, created if it is not there. It may hold what an earlier,
    /// broken attempt left. Use it under the key's lease.
    pub fn work_dir(&self, key: &Digest) -> Result<PathBuf, StoreError> {
        let dir = self.root().join("work").join(key.to_string());
        disk::make_dir(&dir)?;
        Ok(dir)
    }

    /// Removes the work folder of the lease's key. The lease is the proof that nobody else uses it.
    pub fn clear_work(&self, lease: &crate::Lease) -> Result<(), StoreError> {
        let dir = self.root().join("work").join(lease.key().to_string());
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &dir, e)),
            _ => Ok(()),
        }
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

    /// Checks or writes the version and creates the folders.
    fn settle(&self) -> Result<(), StoreError> {
        let root = self.root();
        let version = root.join("version");
        match fs::read_to_string(&version) {
            Ok(text) => match text.trim().parse::<u32>() {
                Ok(found) if found > STORE_FORMAT => {
                    return Err(StoreError::Newer { path: root.to_owned(), found, known: STORE_FORMAT });
                }
                Ok(_) => {}
                Err(_) => {
                    return Err(StoreError::NotAStore { path: root.to_owned(), found: "version".to_owned() });
                }
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.refuse_strangers()?;
                // The version goes first: a folder with one is ours, however far the first start came.
                disk::make_dir(&self.tmp())?;
                failpoint("open-before-version").map_err(|e| StoreError::io("write", &version, e))?;
                disk::replace(&self.tmp(), &version, format!("{STORE_FORMAT}\n").as_bytes(), "version")?;
            }
            Err(e) => return Err(StoreError::io("read", &version, e)),
        }
        for folder in FOLDERS {
            disk::make_dir(&root.join(folder))?;
        }
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            disk::create(&self.tmp(), &tag, TAG.as_bytes(), "tag")?;
        }
        Ok(())
    }

    /// A folder without a version must be empty but for what an interrupted first start may leave.
    fn refuse_strangers(&self) -> Result<(), StoreError> {
        let root = self.root();
        for entry in fs::read_dir(root).map_err(|e| StoreError::io("read", root, e))? {
            let name = entry.map_err(|e| StoreError::io("read", root, e))?.file_name();
            // `lost+found` is in every fresh file system. `version` may have come meanwhile from another process.
            if name != "tmp" && name != "version" && name != "lost+found" {
                let found = name.to_string_lossy().into_owned();
                // Unless another process has just settled it.
                if !root.join("version").exists() {
                    return Err(StoreError::NotAStore { path: root.to_owned(), found });
                }
            }
        }
        Ok(())
    }
}
