//! The sign that a process gives while it uses the store.
//!
//! ```text
//! users/<token>.json          who it is, what for, and a counter that it raises
//! users/sweeps-<token>.json   the same of a sweeper
//! users/.<token>              the next such file, being written, or left by a kill
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::files::disk::{list, read_replaced, still_there};
use crate::files::failpoint::failpoint;
use crate::hosts::host::Known;
use crate::hosts::watch::Watches;
use crate::hosts::{Setting, User};
use crate::lease::Tenure;
use crate::{Store, StoreError};

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// It uses what is in the store: nobody may sweep.
    Uses,
    /// It sweeps: nobody else may use it.
    Sweeps,
    /// It only shows that it lives.
    Lives,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sign {
    #[serde(flatten)]
    pub(super) user: User,
    role: Role,
    pub(super) beat: u64,
}

impl Sign {
    /// What the process of this token shows in a store's folder `users`.
    pub(super) fn read(users: &Path, token: &str) -> Option<Sign> {
        let bytes = read_replaced(&users.join(format!("{token}.json"))).ok()?;
        serde_json::from_slice::<Sign>(&bytes).ok().filter(|sign| sign.user.token == token)
    }
}

/// Shows that this process lives, until it is dropped.
#[derive(Debug)]
pub(crate) struct Life {
    pub user: User,
    pub role: Role,
    path: PathBuf,
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Pulse {
    over: Mutex<bool>,
    wake: Condvar,
    /// What the process holds, to be looked after.
    tenures: Mutex<Vec<Weak<Tenure>>>,
}

/// Another process that left its sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Other {
    pub user: User,
    pub role: Role,
    pub standing: Standing,
}

/// How a process stands, as far as can be seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It lives: its own host says so, or its counter was seen to move.
    Lives,
    /// Its counter has stood still, but not yet for long enough.
    Silent,
    /// Its own host says so, or its counter has stood still for long enough.
    Dead,
}

impl Life {
    fn begin(store: &Store, role: Role) -> Result<Life, StoreError> {
        let users = store.folder("users");
        store.make_dir(&users)?;
        let user = store.setting().host.process();
        let path = users.join(file_name(role, &user.token));
        let sign = Sign { user: user.clone(), role, beat: 1 };
        let begun = write(&users, &sign).and_then(|()| failpoint("life-begun"));
        begun.map_err(|e| {
            let _ = fs::remove_file(&path);
            StoreError::io("write", &path, e)
        })?;
        let pulse = Arc::<Pulse>::default();
        // From here on the file goes with it, whatever happens.
        let mut life = Life { user, role, path: path.clone(), pulse: pulse.clone(), thread: None };
        let (beat, root, folder) = (store.setting().beat, store.root().to_owned(), store.root_folder());
        let beating = move || {
            let mut sign = sign;
            while !pulse.rest(beat) {
                sign.beat += 1;
                // A store that was deleted, or begun anew, is not ours to write to. What cannot be written, on a disk
                // that is full, is tried again the next time.
                if still_there(&folder, &root) {
                    let _ = write(&users, &sign);
                }
                pulse.look_after();
            }
        };
        let name = std::thread::Builder::new().name("heartbeat".to_owned());
        life.thread = Some(name.spawn(beating).map_err(|e| StoreError::io("keep up", &path, e))?);
        Ok(life)
    }

    /// Has it looked at with every heartbeat whether this is still held.
    pub fn hold(&self, tenure: &Arc<Tenure>) {
        let mut all = self.pulse.tenures.lock().unwrap_or_else(|e| e.into_inner());
        all.retain(|t| t.strong_count() > 0);
        all.push(Arc::downgrade(tenure));
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        *self.pulse.over.lock().unwrap_or_else(|e| e.into_inner()) = true;
        self.pulse.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

impl Pulse {
    /// Waits for the next heartbeat; whether it was the last.
    fn rest(&self, beat: Duration) -> bool {
        let over = self.over.lock().unwrap_or_else(|e| e.into_inner());
        let waited = self.wake.wait_timeout_while(over, beat, |over| !*over);
        *waited.unwrap_or_else(|e| e.into_inner()).0
    }

    fn look_after(&self) {
        let all = self.tenures.lock().unwrap_or_else(|e| e.into_inner()).clone();
        for tenure in all.iter().filter_map(Weak::upgrade) {
            // An error of the file system says nothing of who holds it.
            let _ = tenure.check();
        }
    }
}

/// Renamed into place, so that nobody reads half of it; not synced, for after a power cut it says nothing.
fn write(users: &Path, sign: &Sign) -> io::Result<()> {
    let (temp, path) = (users.join(format!(".{}", sign.user.token)), users.join(file_name(sign.role, &sign.user.token)));
    let text = serde_json::to_vec(sign)?;
    let renamed = fs::write(&temp, &text).and_then(|()| failpoint("life-written")).and_then(|()| fs::rename(&temp, &path));
    renamed.or_else(|e| {
        let _ = fs::remove_file(&temp);
        // A full disk has no room for another file, but the one that is there keeps its own. Who reads half of it sees that it
        // has changed, which is all it says.
        let over = File::options().write(true).open(&path).map_err(|_| e)?;
        over.write_all_at(&text, 0)?;
        over.set_len(text.len() as u64)
    })
}

/// Sweepers are told by their names: all who come look for one.
fn file_name(role: Role, token: &str) -> String {
    format!("{}{token}.json", if role == Role::Sweeps { SWEEPS } else { "" })
}

const SWEEPS: &str = "sweeps-";

/// How a process stands whose counter is this now.
pub(super) fn standing(setting: &Setting, watches: &Watches, user: &User, beat: Option<u64>) -> Standing {
    if user.host_id == setting.host.id {
        match user.known() {
            Known::Lives => return Standing::Lives,
            Known::Dead => return Standing::Dead,
            Known::Unsure => {}
        }
    }
    watched(setting, watches, &user.token, beat)
}

fn watched(setting: &Setting, watches: &Watches, name: &str, count: Option<u64>) -> Standing {
    let seen = watches.look(name, count, Instant::now(), setting.beat);
    match seen {
        seen if seen.still >= setting.patience => Standing::Dead,
        // What moved a while ago may have died since.
        seen if seen.moved && seen.still < setting.beat * 2 => Standing::Lives,
        _ => Standing::Silent,
    }
}

impl Store {
    /// The sign of this process, which all who need one share. Beside a lock of the system it is only for other hosts: what
    /// cannot be written is warned of then, and nothing comes back.
    pub(crate) fn life(&self, role: Role, locked: bool) -> Result<Option<Arc<Life>>, StoreError> {
        let mut lives = self.lives().lock().unwrap_or_else(|e| e.into_inner());
        let alike = |life: &Arc<Life>| life.role == role || (role == Role::Lives && life.role == Role::Uses);
        if role != Role::Sweeps
            && let Some(life) = lives.iter().filter_map(Weak::upgrade).find(alike)
        {
            return Ok(Some(life));
        }
        lives.retain(|life| life.strong_count() > 0);
        match Life::begin(self, role) {
            Ok(life) => {
                let life = Arc::new(life);
                lives.push(Arc::downgrade(&life));
                Ok(Some(life))
            }
            Err(e) if locked && !matches!(e, StoreError::Gone { .. }) => {
                let what = format!("this process is not shown to other hosts: {e}");
                self.warn(&self.folder("users"), what, None);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// The processes that use the store, or sweep it, or only those that sweep, other than the one of this token. What is
    /// left of the dead of this host is removed.
    pub(crate) fn others(&self, me: Option<&str>, only: Option<Role>) -> Result<Vec<Other>, StoreError> {
        let mut found = Vec::new();
        for path in list(&self.folder("users"))? {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let Some(token) = name.strip_suffix(".json").filter(|t| !t.starts_with('.')) else { continue };
            let (sweeps, token) = token.strip_prefix(SWEEPS).map_or((false, token), |token| (true, token));
            if Some(token) == me || (only == Some(Role::Sweeps) && !sweeps) {
                continue;
            }
            let sign = match read_replaced(&path) {
                Ok(bytes) => serde_json::from_slice::<Sign>(&bytes).ok().filter(|sign| sign.user.token == token),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(StoreError::io("read", &path, e)),
            };
            let Some(Sign { user, role, beat }) = sign else {
                // Torn by a power cut, or of a newer program: it counts as one that may move.
                let stamp = fs::metadata(&path).ok().map(|m| std::os::unix::fs::MetadataExt::ino(&m));
                let user = User { token: token.to_owned(), host: "an unknown host".to_owned(), ..User::default() };
                let standing = self.watched(token, stamp);
                found.push(Other { user, role: if sweeps { Role::Sweeps } else { Role::Uses }, standing });
                continue;
            };
            let standing = self.standing(&user, Some(beat));
            if standing == Standing::Dead && user.host_id == self.setting().host.id {
                self.bury(&user);
            } else if role != Role::Lives {
                found.push(Other { user, role, standing });
            }
        }
        Ok(found)
    }

    /// How a process stands whose counter is this now.
    fn standing(&self, user: &User, beat: Option<u64>) -> Standing {
        standing(self.setting(), self.watches(), user, beat)
    }

    fn watched(&self, name: &str, count: Option<u64>) -> Standing {
        watched(self.setting(), self.watches(), name, count)
    }

    /// How a process stands that holds something. Waits for nothing.
    pub(crate) fn standing_of(&self, user: &User) -> Standing {
        self.standing(user, Sign::read(&self.folder("users"), &user.token).map(|sign| sign.beat))
    }

    /// Whether a process is dead, as far as its sign says. One of another host that has none is watched for a while: the
    /// file system may not show it yet.
    pub(crate) fn is_gone(&self, host_id: &str, token: &str) -> bool {
        let standing = match Sign::read(&self.folder("users"), token) {
            Some(sign) => self.standing(&sign.user, Some(sign.beat)),
            None if host_id == self.setting().host.id => Standing::Dead,
            None => self.watched(token, None),
        };
        standing == Standing::Dead
    }

    /// How a claim stands of which nobody knows whose it is.
    pub(crate) fn standing_of_unknown(&self, place: &Path) -> Standing {
        self.watched(&place.display().to_string(), None)
    }

    /// Removes what a dead process left.
    pub(crate) fn bury(&self, user: &User) {
        let users = self.folder("users");
        self.watches().bury(&user.token);
        for role in [Role::Uses, Role::Sweeps] {
            let _ = fs::remove_file(users.join(file_name(role, &user.token)));
        }
        let _ = fs::remove_file(users.join(format!(".{}", user.token)));
    }
}
