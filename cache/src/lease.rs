//! One computation of a key at a time, on whatever host.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::files::disk::{list, read_replaced, still_there};
use crate::hosts::User;
use crate::hosts::claims::{Claim, Claims, Held};
use crate::hosts::life::{Life, Role, Standing};
use crate::hosts::tenure::Tenure;
use crate::lock::{Got, Want, open};
use crate::{Digest, Locks, Setting, Store, StoreError, clock};

/// The right to compute one key. On its host it is a lock of the system, which ends with the process, even at `kill -9`.
/// Other hosts see a claim, and take it over when its process has given no sign of life for so long as
/// [`crate::Setting::patience`] says.
#[derive(Debug)]
#[must_use = "the lease ends when this is dropped"]
pub struct Lease {
    tenure: Arc<Tenure>,
    store: Store,
    holder: Mutex<Holder>,
    _life: Option<Arc<Life>>,
    _file: Option<File>,
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
    /// The name of its host; empty where an older program wrote this.
    #[serde(default)]
    pub host: String,
    /// [`crate::Host::id`] of its host.
    #[serde(default)]
    pub host_id: String,
    /// The mark of its claim.
    #[serde(default)]
    mark: String,
}

/// How often one who waits looks again.
const LOOK: Duration = Duration::from_millis(100);

impl Store {
    /// Removes the work folders of the lease's key. The lease is the proof that nobody else uses them; one that was lost
    /// is none, and then only its own folder goes.
    pub fn clear_work(&self, lease: &Lease) -> Result<(), StoreError> {
        let all = self.root().join("work").join(lease.key().to_string());
        let dir = if lease.check().is_ok() { all } else { all.join(lease.tenure.folder()) };
        match fs::remove_dir_all(&dir) {
            // One who held the lease before, and does not know yet that it does not any more, may still write there.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Ok(()),
            Err(e) => Err(StoreError::io("remove", &dir, e)),
            Ok(()) => Ok(()),
        }
    }

    /// A new folder for the work on the lease's key. What earlier attempts left is removed, as far as it can be. No other process ever has
    /// this one: who held the lease before and does not know yet that it does not any more, writes to its own.
    pub fn work_of(&self, lease: &Lease) -> Result<PathBuf, StoreError> {
        let all = self.work_dir(lease.key())?;
        for old in list(&all)? {
            let _ = if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) };
        }
        let dir = all.join(lease.tenure.folder());
        fs::create_dir(&dir).map_err(|e| StoreError::io("create the folder", &dir, e))?;
        Ok(dir)
    }

    /// Waits for the key's lease. When it comes, look the action up again: the one before may have finished it.
    pub fn lease(&self, key: &Digest) -> Result<Lease, StoreError> {
        loop {
            if let Some(lease) = self.lease_if(key, true)? {
                return Ok(lease);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The key's lease if it is free now. While another host holds it, each call looks once for its sign of life: who
    /// calls again and again gets the lease of a dead one in the end.
    pub fn try_lease(&self, key: &Digest) -> Result<Option<Lease>, StoreError> {
        // `lease_holder` of another process takes the lock for an instant: a few tries tell it from a holder.
        for n in 0..4 {
            if n > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            if let Some(lease) = self.lease_if(key, false)? {
                return Ok(Some(lease));
            }
        }
        Ok(None)
    }

    /// Who holds the key's lease, if anyone does. Waits for nothing.
    pub fn lease_holder(&self, key: &Digest) -> Option<Holder> {
        // What a dead process wrote stays behind; only the lock, or a claim, says whether there is a holder.
        let said =
            || read_replaced(&self.holder_path(key)).ok().and_then(|text| serde_json::from_slice::<Holder>(&text).ok());
        if self.is_locked(key) {
            return said();
        }
        let held = self.claimed(key).ok().flatten()?;
        let silent = || Holder::of(&held.user, held.user.since.clone(), held.mark.clone());
        let mut holder = said().filter(|holder| holder.mark == held.mark).unwrap_or_else(silent);
        let (still, Setting { beat, patience, .. }) = (self.watches().still(&held.user.token), self.setting());
        if still > *beat * 2 {
            let (still, patience) = (still.as_secs(), patience.as_secs());
            holder.note = format!("no sign of life for {still} s; after {patience} s it counts as dead");
        }
        Some(holder)
    }

    /// Whether a sweep must leave alone what belongs to a key's lease. The sweep has the store alone, and looks once: a
    /// process that has left no sign is none.
    pub(crate) fn is_leased(&self, key: &Digest) -> bool {
        let signed = |held: Held| self.folder("users").join(format!("{}.json", held.user.token)).exists();
        // What cannot be looked at may be somebody's.
        self.is_locked(key) || self.claimed(key).map_or(true, |held| held.is_some_and(signed))
    }

    /// Whether a process has the lock of the system on a key.
    fn is_locked(&self, key: &Digest) -> bool {
        if self.setting().locks != Locks::System {
            return false;
        }
        let Ok(file) = File::open(self.lease_path(key)) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Who claims a key on which there is no lock of the system, and is not dead.
    fn claimed(&self, key: &Digest) -> Result<Option<Held>, StoreError> {
        let claims = self.claims(key);
        Ok(match claims.top()? {
            Some((_, Claim::Held(held))) if self.holds(&held) => Some(held),
            Some((n, Claim::Unreadable)) if !self.unknown_is_dead(&claims, n) => {
                let user = User { host: "an unknown host".to_owned(), ..User::default() };
                Some(Held { user, locked: false, mark: String::new() })
            }
            _ => None,
        })
    }

    /// Whether a claim holds, where there is no lock of the system on the key. On one host the lock says so of those who
    /// take one.
    fn holds(&self, held: &Held) -> bool {
        let here = held.user.host_id == self.setting().host.id;
        !(here && held.locked && self.setting().locks == Locks::System)
            && self.standing_of(&held.user) != Standing::Dead
    }

    fn unknown_is_dead(&self, claims: &Claims, number: u64) -> bool {
        self.standing_of_unknown(&claims.dir().join(number.to_string())) == Standing::Dead
    }

    pub(crate) fn lease_path(&self, key: &Digest) -> PathBuf {
        self.folder("leases").join(key.to_string())
    }

    pub(crate) fn holder_path(&self, key: &Digest) -> PathBuf {
        self.folder("leases").join(format!("{key}.json"))
    }

    fn claims(&self, key: &Digest) -> Claims {
        Claims::at(self.folder("leases").join(format!("{key}.claims")))
    }

    /// The lease, if it is free; with `wait`, once the lock of the system is.
    fn lease_if(&self, key: &Digest, wait: bool) -> Result<Option<Lease>, StoreError> {
        let path = self.lease_path(key);
        let file = match self.lock_file(open(&path)?, &path, Want::Exclusive, wait)? {
            // A sweep may have removed the file between our opening and locking it; then the lock is on nothing.
            Got::Lock(file) if !still_there(&file, &path) => return Ok(None),
            Got::Lock(file) => Some(file),
            Got::None => None,
            Got::Busy => return Ok(None),
        };
        self.claim(key, file)
    }

    /// Claims the key, if no other host does. Who comes here has the lock of the system, where there are any.
    fn claim(&self, key: &Digest, file: Option<File>) -> Result<Option<Lease>, StoreError> {
        let claims = self.claims(key);
        let number = match claims.top()? {
            None => 1,
            Some((_, Claim::Held(held))) if self.holds(&held) => return Ok(None),
            Some((n, Claim::Unreadable)) if !self.unknown_is_dead(&claims, n) => return Ok(None),
            Some((n, _)) => n + 1,
        };
        let life = self.life(Role::Lives, file.is_some())?;
        let Some(shown) = &life else { return Ok(Some(self.granted(key, claims, None, None, file))) };
        let held = Held::by(&shown.user, file.is_some());
        // Nothing of it must survive a power cut: after one nobody holds anything.
        let there = match fs::create_dir(claims.dir()) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(_) => self.make_dir(claims.dir()),
            Ok(()) => Ok(()),
        };
        match there.and_then(|()| claims.take(number, &held)) {
            Ok(true) => Ok(Some(self.granted(key, claims, Some((number, held.mark)), life, file))),
            Ok(false) => Ok(None),
            // The lock is what counts on this host: a full disk must not keep anyone from finishing.
            Err(e) if file.is_some() && !matches!(e, StoreError::Gone { .. }) => {
                self.warn(claims.dir(), format!("the lease is not shown to other hosts: {e}"), None);
                Ok(Some(self.granted(key, claims, None, life, file)))
            }
            Err(e) => Err(e),
        }
    }

    fn granted(
        &self,
        key: &Digest,
        claims: Claims,
        claim: Option<(u64, String)>,
        life: Option<Arc<Life>>,
        file: Option<File>,
    ) -> Lease {
        let mark = claim.as_ref().map(|(_, mark)| mark.clone()).unwrap_or_default();
        let user = life.as_ref().map_or_else(|| self.setting().host.process(), |life| life.user.clone());
        let holder = Holder::of(&user, clock::utc_now(), mark);
        let tenure = Arc::new(Tenure::of(key, claims, claim));
        if let Some(life) = &life {
            life.hold(&tenure);
        }
        let lease = Lease { tenure, store: self.clone(), holder: Mutex::new(holder), _life: life, _file: file };
        // The claim is what counts: a full disk must not keep anyone from finishing, only from being seen.
        if let Err(e) = lease.write() {
            self.warn(&self.holder_path(key), format!("the holder is not shown to others: {e}"), None);
        }
        lease
    }
}

impl Holder {
    fn of(user: &User, started: String, mark: String) -> Holder {
        let (host, host_id) = (user.host.clone(), user.host_id.clone());
        Holder { pid: user.pid, started, note: String::new(), host, host_id, mark }
    }
}

impl Lease {
    /// The key that is leased.
    pub fn key(&self) -> &Digest {
        self.tenure.key()
    }

    /// Tells the ones who wait how far it is: `step 1240 of 4000`. Cheap, not durable.
    pub fn note(&self, note: impl Into<String>) -> Result<(), StoreError> {
        self.holder.lock().unwrap_or_else(|e| e.into_inner()).note = note.into();
        self.write()
    }

    /// Makes sure that it is still held, with a look at the disk.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] if another host has taken it over; the file system's trouble.
    pub fn check(&self) -> Result<(), StoreError> {
        self.tenure.check()
    }

    /// What tells whether it is still held, for those who outlive it.
    pub fn tenure(&self) -> Arc<Tenure> {
        self.tenure.clone()
    }

    /// Renamed into place, so that a reader never sees half; not synced, since it says nothing after a power cut.
    fn write(&self) -> Result<(), StoreError> {
        if self.tenure.is_lost() {
            return Ok(());
        }
        let path = self.store.holder_path(self.key());
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
        if self.tenure.give_back() {
            // Before the lock goes with the file; what is left behind by a kill is seen through by `lease_holder`.
            let _ = fs::remove_file(self.store.holder_path(self.key()));
        }
    }
}
