//! The processes that use a store: this one, and what is seen of the others.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Weak};

use crate::files::disk::{list, read_replaced};
use crate::hosts::User;
use crate::hosts::life::{self, Life, Role, SWEEPS, Sign, Standing, file_name};
use crate::{Store, StoreError};

/// Another process that left its sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Other {
    pub user: User,
    pub role: Role,
    pub standing: Standing,
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
        let users = self.folder("users");
        let begun =
            self.make_dir(&users).and_then(|()| Life::begin(self.root(), self.root_folder(), self.setting(), role));
        match begun {
            Ok(life) => {
                let life = Arc::new(life);
                lives.push(Arc::downgrade(&life));
                Ok(Some(life))
            }
            Err(e) if locked && !matches!(e, StoreError::Gone { .. }) => {
                let what = format!("this process is not shown to other hosts: {e}");
                self.warn(&users, what, None);
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
                let stamp = fs::metadata(&path).ok().map(|m| m.ino());
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
        life::standing(self.setting(), self.watches(), user, beat)
    }

    fn watched(&self, name: &str, count: Option<u64>) -> Standing {
        life::watched(self.setting(), self.watches(), name, count)
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
