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

use crate::StoreError;
use crate::files::disk::{read_replaced, still_there};
use crate::files::failpoint::failpoint;
use crate::hosts::host::Known;
use crate::hosts::tenure::Tenure;
use crate::hosts::watch::Watches;
use crate::hosts::{Setting, User};

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
    pub(super) role: Role,
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
    /// Begins to show it in the folder `users` of the store at `root`, which is open as `folder`.
    pub fn begin(root: &Path, folder: Arc<File>, setting: &Setting, role: Role) -> Result<Life, StoreError> {
        let users = root.join("users");
        let user = setting.host.process();
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
        let (beat, root) = (setting.beat, root.to_owned());
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
    let (temp, path) =
        (users.join(format!(".{}", sign.user.token)), users.join(file_name(sign.role, &sign.user.token)));
    let text = serde_json::to_vec(sign)?;
    let renamed =
        fs::write(&temp, &text).and_then(|()| failpoint("life-written")).and_then(|()| fs::rename(&temp, &path));
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
pub(super) fn file_name(role: Role, token: &str) -> String {
    format!("{}{token}.json", if role == Role::Sweeps { SWEEPS } else { "" })
}

pub(super) const SWEEPS: &str = "sweeps-";

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

pub(super) fn watched(setting: &Setting, watches: &Watches, name: &str, count: Option<u64>) -> Standing {
    let seen = watches.look(name, count, Instant::now(), setting.beat);
    match seen {
        seen if seen.still >= setting.patience => Standing::Dead,
        // What moved a while ago may have died since.
        seen if seen.moved && seen.still < setting.beat * 2 => Standing::Lives,
        _ => Standing::Silent,
    }
}
