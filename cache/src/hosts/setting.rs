//! What a process knows of where it is and how to keep others out.

use std::time::Duration;

use crate::StoreError;
use crate::hosts::Host;

/// What keeps the processes of one host apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// The system's locks (`flock`), and heartbeats between hosts.
    System,
    /// Heartbeats alone, for file systems without locks.
    Heartbeat,
    /// A file system whose locks fail with this error of the system. For tests.
    #[doc(hidden)]
    Failing(i32),
}

/// How a process uses stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The host that it is on.
    pub host: Host,
    /// What keeps processes apart.
    pub locks: Locks,
    /// How often it shows that it lives.
    pub beat: Duration,
    /// For how long it sees nothing of a process of another host before it takes it for dead.
    pub patience: Duration,
}

/// Seconds between two heartbeats.
const BEAT: Duration = Duration::from_secs(10);

/// More than a minute: for so long a network file system may show what was (`acregmax` and `acdirmax` of NFS are 60 s).
const PATIENCE: Duration = Duration::from_secs(90);

impl Setting {
    /// This host, and what `OPDFLOW_LOCKS` says.
    ///
    /// # Errors
    /// The variable has a value that means nothing.
    pub fn of_environment() -> Result<Setting, StoreError> {
        let locks = match std::env::var("OPDFLOW_LOCKS").as_deref() {
            Err(_) | Ok("" | "system") => Locks::System,
            Ok("heartbeat") => Locks::Heartbeat,
            Ok(other) => {
                return Err(StoreError::Invalid {
                    what: "anything with these locks".to_owned(),
                    why: format!(
                        "OPDFLOW_LOCKS is `{other}`; it may be `system`, as without it, or `heartbeat`, for a file system without locks"
                    ),
                });
            }
        };
        Ok(Setting { host: Host::this(), locks, beat: BEAT, patience: PATIENCE })
    }
}
