//! One computation of a key at a time.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::files::disk::still_there;
use crate::lock::{open, unlockable};
use crate::{Digest, Store, StoreError, clock};

/// The right to compute one key. An operating-system lock: it ends with the process, even at `kill -9`.
#[derive(Debug)]
#[must_use = "the lease ends when this is dropped"]
pub struct Lease {
    key: Digest,
    store: Store,
    holder: Mutex<Holder>,
    _file: File,
}

/// Who computes a key, in their own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// When it got the lease: RFC 3339, UTC.
    pub started: String,
    /// What it last said: see [`Lease::note`].
    pub note: String,
}

impl Store {
    /// Removes the work folder of the lease's key. The lease is the proof that nobody else uses it.
    pub fn clear_work(&self, lease: &Lease) -> Result<(), StoreError> {
        let dir = self.root().join("work").join(lease.key().to_string());
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &dir, e)),
            _ => Ok(()),
        }
    }

    /// Waits for the key's lease. When it comes, look the action up again: the one before may have finished it.
    pub fn lease(&self, key: &Digest) -> Result<Lease, StoreError> {
        let path = self.lease_path(key);
        loop {
            let file = open(&path)?;
            match file.lock() {
                // A sweep may have removed the file between our opening and locking it; then the lock is on nothing.
                Ok(()) if still_there(&file, &path) => return self.granted(key, file),
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unlockable(&path, e)),
            }
        }
    }

    /// The key's lease if it is free now.
    pub fn try_lease(&self, key: &Digest) -> Result<Option<Lease>, StoreError> {
        let path = self.lease_path(key);
        // `lease_holder` of another process takes the lock for an instant: a few tries tell it from a holder.
        for _ in 0..4 {
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) if still_there(&file, &path) => return self.granted(key, file).map(Some),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
                Err(TryLockError::Error(e)) => return Err(unlockable(&path, e)),
            }
        }
        Ok(None)
    }

    /// Who holds the key's lease, if anyone does. Waits for nothing.
    pub fn lease_holder(&self, key: &Digest) -> Option<Holder> {
        // What a dead process wrote stays behind; only the lock says whether there is a holder.
        if !self.is_leased(key) {
            return None;
        }
        let text = fs::read(self.holder_path(key)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(crate) fn is_leased(&self, key: &Digest) -> bool {
        let Ok(file) = File::open(self.lease_path(key)) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    pub(crate) fn lease_path(&self, key: &Digest) -> PathBuf {
        self.folder("leases").join(key.to_string())
    }

    pub(crate) fn holder_path(&self, key: &Digest) -> PathBuf {
        self.folder("leases").join(format!("{key}.json"))
    }

    fn granted(&self, key: &Digest, file: File) -> Result<Lease, StoreError> {
        let holder = Holder { pid: std::process::id(), started: clock::utc_now(), note: String::new() };
        let lease = Lease { key: *key, store: self.clone(), holder: Mutex::new(holder), _file: file };
        // The lock is what counts: a full disk must not keep anyone from finishing, only from being seen.
        if let Err(e) = lease.write() {
            self.warn(&self.holder_path(key), format!("the holder is not shown to others: {e}"), None);
        }
        Ok(lease)
    }
}

impl Lease {
    /// The key that is leased.
    pub fn key(&self) -> &Digest {
        &self.key
    }

    /// Tells the ones who wait how far it is: `step 1240 of 4000`. Cheap, not durable.
    pub fn note(&self, note: impl Into<String>) -> Result<(), StoreError> {
        self.holder.lock().unwrap_or_else(|e| e.into_inner()).note = note.into();
        self.write()
    }

    /// Renamed into place, so that a reader never sees half; not synced, since it says nothing after a power cut.
    fn write(&self) -> Result<(), StoreError> {
        let path = self.store.holder_path(&self.key);
        let failed = |e| StoreError::io("write", &path, e);
        let holder = self.holder.lock().unwrap_or_else(|e| e.into_inner());
        let text = serde_json::to_vec(&*holder).map_err(|e| failed(e.into()))?;
        let temp = crate::files::disk::temp_file(&self.store.tmp(), 0o644)?;
        fs::write(temp.path(), text).map_err(failed)?;
        temp.persist(&path).map_err(|e| failed(e.error))?;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Before the lock goes with the file; what is left behind by a kill is seen through by `lease_holder`.
        let _ = fs::remove_file(self.store.holder_path(&self.key));
    }
}
