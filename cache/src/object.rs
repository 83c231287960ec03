//! What a digest points at.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::put;
use crate::{Digest, StoreError, TreeEntry, tree};

/// Something in the store: the bytes of a file, or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Object {
    /// Of a blob: the blake3 of its bytes. Of a tree: the blake3 of its listing.
    pub digest: Digest,
    /// Whether to read the bytes as a file or as a listing.
    pub kind: ObjectKind,
    /// Bytes. Of a tree: the sum of its files, without the listing.
    pub size: u64,
}

impl Object {
    /// What a file or a folder would be in a store, without storing it: its name there, and its size.
    ///
    /// Refuses what [`Store::put_path`](crate::Store::put_path) refuses.
    pub fn of_path(path: &Path) -> Result<Object, StoreError> {
        if !path.is_dir() {
            let (digest, size) = put::digest_of(path)?;
            return Ok(Object { digest, kind: ObjectKind::Blob, size });
        }
        let entries = TreeEntry::of_folder(path)?;
        let size = tree::total(&entries)
            .ok_or_else(|| StoreError::Invalid { what: path.display().to_string(), why: "it is too big".to_owned() })?;
        Ok(Object { digest: Digest::of(&tree::encode(&entries)), kind: ObjectKind::Tree, size })
    }
}

/// A file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// The bytes of one file.
    Blob,
    /// A folder: a listing of files. Empty folders inside it are not kept, nor are modes and times.
    Tree,
}
