//! One process, watched from outside the store.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::hosts::life::{Sign, standing};
use crate::hosts::watch::Watches;
use crate::hosts::{Setting, Standing};

/// Watches the sign that a process gives in a store, which need not be opened for that.
#[derive(Debug)]
pub struct Sight {
    users: PathBuf,
    token: String,
    setting: Setting,
    watches: Watches,
}

/// Longer than from one heartbeat to the next.
const BEATS: f64 = 1.3;

impl Sight {
    /// Of the process with this token ([`crate::User::token`]) in the store at `root`.
    #[must_use]
    pub fn of(root: &Path, token: &str, setting: Setting) -> Sight {
        Sight { users: root.join("users"), token: token.to_owned(), setting, watches: Watches::default() }
    }

    /// How the process stands, by this and all earlier looks; nothing where the store has no sign of it, which it takes
    /// away when it ends.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        let sign = Sign::read(&self.users, &self.token)?;
        Some(standing(&self.setting, &self.watches, &sign.user, Some(sign.beat)))
    }

    /// The same, after as much time as it takes to see the next heartbeat; at once where that is known at once.
    #[must_use]
    pub fn patient(&self) -> Option<Standing> {
        let began = Instant::now();
        loop {
            let seen = self.standing();
            if seen != Some(Standing::Silent) || began.elapsed() > self.setting.beat.mul_f64(BEATS) {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(100).min(self.setting.beat / 4));
        }
    }

    /// Whether the store is where it is said to be.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.users.is_dir()
    }
}
