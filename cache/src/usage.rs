//! How much room the store takes.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Store;
use crate::files::disk::list;

/// Bytes and files, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Blobs, listings of trees included.
    pub blobs: Share,
    /// Action records and attempts.
    pub actions: Share,
    /// Checkpoints of unfinished, or prolongable, work.
    pub checkpoints: Share,
    /// Work folders of actions that run, or that broke off.
    pub work: Share,
    /// Files being written, or left by a kill.
    pub tmp: Share,
    /// Damaged things that were moved aside. The store never deletes them; you may.
    pub damaged: Share,
}

/// What one kind takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// How many files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Usage {
    /// Bytes of everything.
    pub fn bytes(&self) -> u64 {
        [self.blobs, self.actions, self.checkpoints, self.work, self.tmp, self.damaged]
            .iter()
            .fold(0, |sum, share| sum.saturating_add(share.bytes))
    }
}

impl Store {
    /// Measures the store. What cannot be looked at counts as nothing.
    pub fn usage(&self) -> Usage {
        let of = |name| share(&self.folder(name));
        Usage {
            blobs: of("blobs"),
            actions: of("actions"),
            checkpoints: of("checkpoints"),
            work: of("work"),
            tmp: of("tmp"),
            damaged: of("damaged"),
        }
    }
}

/// Files below `dir`, or `dir` itself if it is one. Links are not followed.
pub(crate) fn share(path: &Path) -> Share {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => list(path)
            .unwrap_or_default()
            .iter()
            .map(|p| share(p))
            .fold(Share::default(), |a, b| Share { files: a.files + b.files, bytes: a.bytes.saturating_add(b.bytes) }),
        Ok(meta) => Share { files: 1, bytes: meta.len() },
        Err(_) => Share::default(),
    }
}
