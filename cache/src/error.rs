//! What can go wrong, where, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;

/// Every way in which the store can fail. Each says the path concerned and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk, or the user's share of it, is full.
    #[error("no space left while writing {}: free some with `opdflow gc`, or set OPDFLOW_STORE to a bigger disk", path.display())]
    NoSpace {
        /// What was being written.
        path: PathBuf,
    },
    /// The place cannot be written to: a read-only file system, missing permission, or not a folder.
    #[error("cannot write to {}: {source}; set OPDFLOW_STORE to a folder that you may write to", path.display())]
    Unwritable {
        /// What was being written.
        path: PathBuf,
        /// The system's word on it.
        source: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// A verb.
        op: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The system's word on it.
        source: io::Error,
    },
    /// The store was made by a newer version of this program.
    #[error("the store {} has format {found}, this program knows up to {known}: update the program, or set OPDFLOW_STORE to another folder", path.display())]
    Newer {
        /// The store's root, or the record.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The folder holds something else, and the store will not be mixed into it.
    #[error("{} is not a store: it has no readable `version` file and holds `{found}`; set OPDFLOW_STORE to an empty or new folder", path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// One thing found in it.
        found: String,
    },
    /// Bytes that should be here are not.
    #[error("{digest} is not in the store (looked for {}): run the stage that makes it again", path.display())]
    Missing {
        /// Their name.
        digest: Digest,
        /// Where they should be.
        path: PathBuf,
    },
    /// Bytes in the store do not have the digest they are filed under.
    #[error("{digest} is damaged in the store: {why}; {}; run the stage that makes it again", moved(.aside))]
    Damaged {
        /// Their name.
        digest: Digest,
        /// What is wrong with them.
        why: String,
        /// Where the damaged bytes lie now; nothing if they could not be moved.
        aside: Option<PathBuf>,
    },
    /// The thing to be stored holds something that is neither a file nor a folder.
    #[error("{} is a {what}: the store keeps plain files and folders only; write a copy of what it points at instead", path.display())]
    Special {
        /// The thing.
        path: PathBuf,
        /// `symbolic link`, `named pipe`, ...
        what: &'static str,
    },
    /// A file name that is not UTF-8 cannot be listed in a tree.
    #[error("the file name {} is not UTF-8: rename it", path.display())]
    NotUtf8 {
        /// The name.
        path: PathBuf,
    },
    /// The place to write to is taken. Nothing was overwritten.
    #[error("{} exists already and is not overwritten: remove it or choose another place", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// An archive that is not whole, or none of ours. Nothing of it was taken in.
    #[error("{} is damaged, or no archive of opdflow: {why}; nothing was taken in; make it again with `opdflow export`", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A value that cannot be stored.
    #[error("cannot store {what}: {why}")]
    Invalid {
        /// What it is: a record, a pin, ...
        what: String,
        /// Why not.
        why: String,
    },
    /// The file system has no locks, so nothing would keep two runs from computing the same thing at once.
    #[error("cannot lock {}: {source}; the file system has no locks: put the store on one that has (set OPDFLOW_STORE), or set OPDFLOW_LOCKS=heartbeat on every host that uses this store, which keeps processes apart by heartbeats alone", path.display())]
    NoLocks {
        /// The lock's file.
        path: PathBuf,
        /// The system's word on it.
        source: io::Error,
    },
    /// The store was deleted, or another one put in its place, while it was in use.
    #[error("the store {} was deleted, or replaced, while it was in use: what it held must be computed again; give the same command again", path.display())]
    Gone {
        /// The store's root.
        path: PathBuf,
    },
    /// A sweep met something that may name what must be kept, and cannot read it. Nothing was removed.
    #[error("cannot tell what must be kept: {}: {why}; nothing was removed; {help}", path.display())]
    Unsure {
        /// What cannot be read.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// The way out.
        help: String,
    },
    /// A folder that is to be replaced holds what this store did not write there. Nothing was replaced.
    #[error("{} holds what `opdflow get` did not write there, or what was changed since, and is not replaced: {}; move that away, or choose another place", path.display(), names(.found, *.more))]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Some of what was found, relative to it.
        found: Vec<String>,
        /// How many more there are.
        more: usize,
    },
    /// A place that nothing is put over, and nothing into.
    #[error("nothing is written to {}: {why}; choose another place", path.display())]
    Protected {
        /// The place.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Another process uses the store, and this needs it alone.
    #[error("the store {} is in use by another run{}: wait until it ends and try again", path.display(), whose(.by))]
    InUse {
        /// The store's root.
        path: PathBuf,
        /// Of other hosts, who: `process 4711 on node7`.
        by: Vec<String>,
    },
    /// A lease that this process held is another host's now.
    #[error("the lease on {} was taken over by {by}: this process had given no sign of life for too long; what it had begun is left to the other one", key.short())]
    LeaseLost {
        /// What was leased.
        key: Digest,
        /// Who has it.
        by: String,
    },
}

fn whose(by: &[String]) -> String {
    if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) }
}

fn names(found: &[String], more: usize) -> String {
    let named: Vec<String> = found.iter().map(|name| format!("`{name}`")).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", named.join(", "))
}

fn moved(path: &Option<PathBuf>) -> String {
    match path {
        Some(path) => format!("it was moved to {}", path.display()),
        None => "it could not be moved aside".to_owned(),
    }
}

impl StoreError {
    /// An error of the file system with its path. A full disk and an unwritable place get their own variants.
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> StoreError {
        use io::ErrorKind as Kind;
        let path = path.to_owned();
        match source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => StoreError::NoSpace { path },
            Kind::ReadOnlyFilesystem => StoreError::Unwritable { path, source },
            Kind::PermissionDenied if op != "read" && op != "hash" => StoreError::Unwritable { path, source },
            _ => StoreError::Io { op, path, source },
        }
    }

    /// Whether running the stage again is the cure: its bytes are missing or damaged.
    pub fn is_lost(&self) -> bool {
        matches!(self, StoreError::Missing { .. } | StoreError::Damaged { .. })
    }
}
