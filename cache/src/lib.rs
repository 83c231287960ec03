//! The content-addressed store: blobs, trees, action records, leases, checkpoint heads. Knows bytes only.
//!
//! Everything that a stage makes is kept as a **blob** (a file's bytes under the blake3 of those bytes) or a
//! **tree** (a blob that lists the files of a folder). An **action record**, written last, says which objects
//! came out under which key. A **lease** is a lock on one key, on one host and among several, so that two runs never
//! compute the same thing at once. **Checkpoints** hold the newest whole states of something unfinished.
//!
//! What survives what is written down in `docs/reference/store.md`.

mod action;
mod archive;
mod attempt;
mod checkpoint;
mod clock;
#[cfg(test)]
mod crash;
mod digest;
mod error;
mod files;
mod gc;
mod hosts;
#[cfg(test)]
mod interleave;
mod lease;
mod lock;
mod memo;
mod object;
mod pin;
mod store;
mod tree;
mod usage;
mod verify;
mod warning;

pub use crate::archive::read::Archive;
pub use crate::archive::take::TakenIn;
pub use crate::archive::{ARCHIVE_FORMAT, Contents, Packed};
pub use action::{ActionRecord, Actions, Output, RECORD_FORMAT};
pub use attempt::Published;
pub use checkpoint::{Checkpoint, Checkpoints, SaveError};
pub use clock::{moment, rfc3339, utc_now};
pub use digest::{Digest, DigestError};
pub use error::StoreError;
pub use gc::{Evicted, EvictedKind, Gc, GcReport, Roots};
pub use hosts::{Host, Locks, Setting, Sight, Standing, Tenure, User};
pub use lease::{Holder, Lease};
pub use lock::StoreLock;
pub use memo::Memo;
pub use object::{Object, ObjectKind};
pub use store::{STORE_FORMAT, Store};
pub use tree::{TreeEntry, tree_digest};
pub use usage::{Share, Usage};
pub use verify::{Damage, VerifyReport};
pub use warning::Warning;
