//! Files and folders outside the store: what they would be in it.

use std::path::{Path, PathBuf};

use crate::files::put::{digest_of, walk};
use crate::tree::{encode, total};
use crate::{Digest, Object, ObjectKind, StoreError, TreeEntry};

impl Object {
    /// What a file or a folder would be in a store, without storing it: its name there, and its size.
    ///
    /// Refuses what [`Store::put_path`](crate::Store::put_path) refuses.
    pub fn of_path(path: &Path) -> Result<Object, StoreError> {
        if !path.is_dir() {
            let (digest, size) = digest_of(path)?;
            return Ok(Object { digest, kind: ObjectKind::Blob, size });
        }
        let entries = TreeEntry::of_folder(path)?;
        let size = total(&entries)
            .ok_or_else(|| StoreError::Invalid { what: path.display().to_string(), why: "it is too big".to_owned() })?;
        Ok(Object { digest: Digest::of(&encode(&entries)), kind: ObjectKind::Tree, size })
    }
}

impl TreeEntry {
    /// The files of a folder outside the store, as the listing of their tree would have them.
    ///
    /// # Errors
    /// One cannot be read, or is neither a file nor a folder.
    pub fn of_folder(path: &Path) -> Result<Vec<TreeEntry>, StoreError> {
        let mut files = Vec::new();
        walk(path, "", &mut files)?;
        files.sort_unstable();
        let entry = |(name, path): (String, PathBuf)| -> Result<TreeEntry, StoreError> {
            let (digest, size) = digest_of(&path)?;
            Ok(TreeEntry { path: name, digest, size })
        };
        files.into_iter().map(entry).collect()
    }
}
