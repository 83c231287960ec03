//! The store's own lock: many users, or one sweeper.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Store, StoreError};

/// Held, it says that the store is in use (shared) or all ours (exclusive). An operating-system lock: it ends with
/// the process, however that ends. No lock file ever has to be removed by hand.
#[derive(Debug)]
#[must_use = "the lock ends when this is dropped"]
pub struct StoreLock {
    _file: File,
}

impl Store {
    /// Waits until no one sweeps, then keeps sweepers out. Every user of the store holds one for its whole life.
    pub fn shared(&self) -> Result<StoreLock, StoreError> {
        let (file, path) = self.lock_file()?;
        file.lock_shared().map_err(|e| unlockable(&path, e))?;
        Ok(StoreLock { _file: file })
    }

    /// As [`Store::shared`], but nothing where someone sweeps now.
    pub fn try_shared(&self) -> Result<Option<StoreLock>, StoreError> {
        let (file, path) = self.lock_file()?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(StoreLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(unlockable(&path, e)),
        }
    }

    /// Waits until no one else uses the store, then keeps everyone out. Waits for ever if this process itself holds
    /// a lock.
    pub fn exclusive(&self) -> Result<StoreLock, StoreError> {
        let (file, path) = self.lock_file()?;
        file.lock().map_err(|e| unlockable(&path, e))?;
        Ok(StoreLock { _file: file })
    }

    /// The exclusive lock, or nothing if anyone, this process included, uses the store.
    pub fn try_exclusive(&self) -> Result<Option<StoreLock>, StoreError> {
        let (file, path) = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(StoreLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(unlockable(&path, e)),
        }
    }

    fn lock_file(&self) -> Result<(File, PathBuf), StoreError> {
        let path = self.folder("lock");
        let file = open(&path)?;
        Ok((file, path))
    }
}

pub(crate) fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| StoreError::io("open", path, e))
}

pub(crate) fn unlockable(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::NoLocks { path: path.to_owned(), source }
}
