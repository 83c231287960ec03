//! The store's own lock: many users, or one sweeper.
//!
//! On one host it is a lock of the system. Hosts see each other by their signs ([`crate::hosts`]): who uses the store shows
//! it first and then looks for a sweeper; a sweeper shows itself and then looks for users. Whatever the order, one of the two
//! sees the other.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::hosts::User;
use crate::hosts::life::{Life, Role, Standing};
use crate::hosts::others::Other;
use crate::{Locks, Store, StoreError};

/// Held, it says that the store is in use (shared) or all ours (exclusive). It ends with the process, however that ends. No
/// lock file ever has to be removed by hand.
#[derive(Debug)]
#[must_use = "the lock ends when this is dropped"]
pub struct StoreLock {
    // In this order: other hosts may come once the sign is gone, this host's processes once the lock is.
    life: Option<Arc<Life>>,
    store: Store,
    looked: Mutex<Instant>,
    _file: Option<File>,
}

/// How a lock of the system is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Shared,
    Exclusive,
}

/// What came of asking for a lock of the system.
pub(crate) enum Got {
    Lock(File),
    /// There are none: heartbeats must do.
    None,
    Busy,
}

/// Why the store is not to be had alone.
pub(crate) enum Busy {
    /// The lock of the system is somebody's.
    Locked,
    /// These use it, or may.
    By(Vec<Other>),
}

/// How often one who waits for another host looks.
const LOOK: Duration = Duration::from_millis(100);

/// A sweep makes sure so often that it is alone.
const SURE: Duration = Duration::from_millis(500);

/// How long one who comes while a sweep is on its way needs to see that, and to wait.
const YIELD: Duration = Duration::from_secs(1);

impl Store {
    /// Waits until no one sweeps, then keeps sweepers out. Every user of the store holds one for its whole life.
    pub fn shared(&self) -> Result<StoreLock, StoreError> {
        loop {
            if let Some(lock) = self.share(true)? {
                return Ok(lock);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// As [`Store::shared`], but nothing where someone sweeps now.
    pub fn try_shared(&self) -> Result<Option<StoreLock>, StoreError> {
        self.share(false)
    }

    /// Waits until no one else uses the store, then keeps everyone out. Waits for ever if this process itself holds
    /// a lock.
    pub fn exclusive(&self) -> Result<StoreLock, StoreError> {
        loop {
            if let Some(lock) = self.try_exclusive()? {
                return Ok(lock);
            }
            std::thread::sleep(LOOK / 10);
        }
    }

    /// The exclusive lock, or nothing if anyone, this process included, uses the store, or may on another host.
    pub fn try_exclusive(&self) -> Result<Option<StoreLock>, StoreError> {
        Ok(self.sole()?.ok())
    }

    /// The exclusive lock, or who keeps us from it.
    pub(crate) fn sole(&self) -> Result<Result<StoreLock, Busy>, StoreError> {
        // Looked first: a sweeper that only waits must keep nobody else out.
        let busy = alive(self.others(None, None)?);
        if !busy.is_empty() {
            return Ok(Err(Busy::By(busy)));
        }
        let Some(file) = self.store_lock(Want::Exclusive, false)? else { return Ok(Err(Busy::Locked)) };
        let life = self.life(Role::Sweeps, file.is_some())?;
        let others = self.others(life.as_ref().map(|life| life.user.token.as_str()), None)?;
        let (dead, busy): (Vec<Other>, _) = others.into_iter().partition(|o| o.standing == Standing::Dead);
        if !busy.is_empty() {
            return Ok(Err(Busy::By(busy)));
        }
        for Other { user, .. } in dead {
            let seconds = self.setting().patience.as_secs();
            let what = format!("{} has given no sign of life for {seconds} s: passed over as dead", user.named());
            self.warn(&self.folder("users"), what, None);
            self.bury(&user);
        }
        Ok(Ok(StoreLock { life, store: self.clone(), looked: Mutex::new(Instant::now()), _file: file }))
    }

    /// The lock of the system alone, for what is done before the store has a place for signs.
    pub(crate) fn lock_here(&self) -> Result<Option<File>, StoreError> {
        Ok(self.store_lock(Want::Shared, true)?.flatten())
    }

    fn share(&self, wait: bool) -> Result<Option<StoreLock>, StoreError> {
        let Some(file) = self.store_lock(Want::Shared, wait)? else { return Ok(None) };
        if self.swept(None)? {
            return Ok(None);
        }
        let life = self.life(Role::Uses, file.is_some())?;
        // Between the first look and our sign a sweep may have begun.
        if self.swept(Some(Role::Sweeps))? {
            return Ok(None);
        }
        Ok(Some(StoreLock { life, store: self.clone(), looked: Mutex::new(Instant::now()), _file: file }))
    }

    /// Whether somebody sweeps. One who has died at it has left nothing that is not whole.
    fn swept(&self, only: Option<Role>) -> Result<bool, StoreError> {
        Ok(alive(self.others(None, only)?).iter().any(|o| o.role == Role::Sweeps))
    }

    /// The lock of the system on the store: held or, within, none where there are none; nothing where it is somebody's.
    fn store_lock(&self, want: Want, wait: bool) -> Result<Option<Option<File>>, StoreError> {
        let path = self.folder("lock");
        let file = open(&path)?;
        Ok(match self.lock_file(file, &path, want, wait)? {
            Got::Lock(file) => Some(Some(file)),
            Got::None => Some(None),
            Got::Busy => None,
        })
    }

    /// Asks for a lock of the system on an open file.
    pub(crate) fn lock_file(&self, file: File, path: &Path, want: Want, wait: bool) -> Result<Got, StoreError> {
        match self.setting().locks {
            Locks::System => {}
            Locks::Heartbeat => return Ok(Got::None),
            Locks::Failing(code) => return Err(unlockable(path, io::Error::from_raw_os_error(code))),
        }
        loop {
            let asked = match (want, wait) {
                (Want::Shared, true) => file.lock_shared().map_err(TryLockError::Error),
                (Want::Exclusive, true) => file.lock().map_err(TryLockError::Error),
                (Want::Shared, false) => file.try_lock_shared(),
                (Want::Exclusive, false) => file.try_lock(),
            };
            match asked {
                Ok(()) => return Ok(Got::Lock(file)),
                Err(TryLockError::WouldBlock) => return Ok(Got::Busy),
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(e)) => return Err(unlockable(path, e)),
            }
        }
    }
}

impl StoreLock {
    /// This process, as other hosts see it; nothing where it could not be shown.
    #[must_use]
    pub fn user(&self) -> Option<&User> {
        self.life.as_ref().map(|life| &life.user)
    }

    /// Makes sure, every now and then, that the store is still all ours: this process may have stood still for so long that
    /// others took it for dead.
    pub(crate) fn still_alone(&self) -> Result<(), StoreError> {
        let mut looked = self.looked.lock().unwrap_or_else(|e| e.into_inner());
        if looked.elapsed() < SURE {
            return Ok(());
        }
        let began = Instant::now();
        loop {
            let others = self.store.others(self.life.as_ref().map(|life| life.user.token.as_str()), None)?;
            let busy = alive(others);
            if busy.is_empty() {
                *looked = Instant::now();
                return Ok(());
            }
            if began.elapsed() > YIELD {
                return Err(self.store.in_use(&Busy::By(busy)));
            }
            std::thread::sleep(LOOK / 10);
        }
    }
}

impl Store {
    /// The error that says who uses the store.
    pub(crate) fn in_use(&self, busy: &Busy) -> StoreError {
        let here = &self.setting().host.id;
        let by = match busy {
            Busy::By(others) => others.iter().filter(|o| o.user.host_id != *here).map(|o| o.user.named()).collect(),
            Busy::Locked => Vec::new(),
        };
        StoreError::InUse { path: self.root().to_owned(), by }
    }

    /// Processes of other hosts that use the store, or did when they were last heard of, for people.
    pub fn foreign_users(&self) -> Result<Vec<String>, StoreError> {
        let here = &self.setting().host.id;
        let others = self.others(None, None)?;
        Ok(others.iter().filter(|o| o.user.host_id != *here).map(|o| o.user.named()).collect())
    }
}

fn alive(others: Vec<Other>) -> Vec<Other> {
    others.into_iter().filter(|o| o.standing != Standing::Dead).collect()
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

/// A file system without locks says so in several ways; anything else is trouble that may pass.
pub(crate) fn unlockable(path: &Path, source: io::Error) -> StoreError {
    const NONE: [i32; 5] = [libc::ENOSYS, libc::EBADF, libc::ENOLCK, libc::EOPNOTSUPP, libc::EINVAL];
    if source.raw_os_error().is_some_and(|code| NONE.contains(&code)) || source.kind() == io::ErrorKind::Unsupported {
        return StoreError::NoLocks { path: path.to_owned(), source };
    }
    StoreError::io("lock", path, source)
}
