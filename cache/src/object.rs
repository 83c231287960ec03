//! What a digest points at.

use serde::{Deserialize, Serialize};

use crate::Digest;

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

/// A file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// The bytes of one file.
    Blob,
    /// A folder: a listing of files. Empty folders inside it are not kept, nor are modes and times.
    Tree,
}
