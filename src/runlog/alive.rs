//! Whether the process of a run lives, on whatever host.

use super::{RunFolder, RunStarted, is_alive};
use opdflow_api::cache::{Setting, Sight, Standing};
use std::path::Path;

/// How the process of a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It lives.
    Lives,
    /// It is another host's, and nothing was seen of it yet: it may live.
    Silent,
    /// It is gone.
    Gone,
}

/// Asks whether the process of one run lives: its lock, and where that says nothing, as between hosts or on a file system
/// without locks, the sign that it gives in the store.
#[derive(Debug)]
pub struct Pulse {
    folder: RunFolder,
    elsewhere: bool,
    sight: Option<Sight>,
}

impl Pulse {
    /// Of the run in this folder, whose log begins so.
    #[must_use]
    pub fn of(folder: &RunFolder, started: &RunStarted) -> Self {
        let setting = Setting::of_environment().ok().filter(|_| !started.token.is_empty());
        let sight = setting.map(|setting| Sight::of(Path::new(&started.store), &started.token, setting));
        Self { folder: folder.clone(), elsewhere: started.is_elsewhere(), sight }
    }

    /// How it stands by all that was seen so far. Waits for nothing.
    #[must_use]
    pub fn now(&self) -> Life {
        self.life(Sight::standing)
    }

    /// The same, but where only a heartbeat can tell, waits for the next one.
    #[must_use]
    pub fn patient(&self) -> Life {
        self.life(Sight::patient)
    }

    fn life(&self, look: impl Fn(&Sight) -> Option<Standing>) -> Life {
        if is_alive(&self.folder) {
            return Life::Lives;
        }
        match &self.sight {
            // The store may lie where this host does not see it.
            Some(sight) if self.elsewhere && !sight.is_there() => Life::Silent,
            Some(sight) => match look(sight) {
                Some(Standing::Lives) => Life::Lives,
                Some(Standing::Silent) => Life::Silent,
                Some(Standing::Dead) | None => Life::Gone,
            },
            None => Life::Gone,
        }
    }
}
