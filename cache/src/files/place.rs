//! Giving bytes out.
//!
//! A file that is given out is always a copy of its own (a copy on write where the file system can). Never a hard
//! link: a link is the blob itself, and a stage that opens its input for writing, or that runs as root, would change
//! the store's bytes under every other stage's feet.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::files::beside::BesideFolder;
use crate::files::put::copy;
use crate::files::{disk, permission};
use crate::{Digest, Object, ObjectKind, Store, StoreError};

impl Store {
    /// Writes the object to `dest`: a file for a blob, a folder for a tree. Every byte is verified on the way.
    ///
    /// `dest` must not exist; it appears whole or not at all. It is the caller's own copy, writable, and not made
    /// durable: it can be placed again at any time.
    pub fn place(&self, object: &Object, dest: &Path) -> Result<(), StoreError> {
        self.place_part(object, dest, |_| true)
    }

    /// As [`Store::place`], but of a tree only the files whose paths `keep` accepts.
    pub fn place_part(&self, object: &Object, dest: &Path, keep: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        self.place_new(dest, &|whole| self.place_at(object, whole, &keep))
    }

    /// Has `write` make what goes to `dest`, where nothing is yet; it is there whole or not at all.
    pub(crate) fn place_new(
        &self,
        dest: &Path,
        write: &dyn Fn(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let taken = || StoreError::Exists { path: dest.to_owned() };
        if dest.symlink_metadata().is_ok() {
            return Err(taken());
        }
        let parent = match dest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if parent.starts_with(self.root()) {
            self.make_dir(parent)?;
        } else {
            fs::create_dir_all(parent).map_err(|e| StoreError::io("create the folder", parent, e))?;
        }
        let beside = BesideFolder::new(parent)?;
        let whole = beside.path().join("whole");
        write(&whole)?;
        disk::rename(&whole, dest, disk::Taken::Refuse).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => taken(),
            _ => StoreError::io("write", dest, e),
        })
    }

    /// Writes the object to a path where nobody looks yet.
    pub(crate) fn place_at(&self, object: &Object, dest: &Path, keep: &dyn Fn(&str) -> bool) -> Result<(), StoreError> {
        match object.kind {
            ObjectKind::Blob => self.place_blob(&object.digest, object.size, dest),
            ObjectKind::Tree => self.place_tree(object, dest, keep),
        }
    }

    fn place_tree(&self, object: &Object, dest: &Path, keep: &dyn Fn(&str) -> bool) -> Result<(), StoreError> {
        let mut entries = self.tree(&object.digest)?;
        if crate::tree::total(&entries) != Some(object.size) {
            let why = format!("the record says {} bytes, its files have another number", object.size);
            return Err(StoreError::Damaged { digest: object.digest, why, aside: None });
        }
        entries.retain(|e| keep(&e.path));
        fs::create_dir(dest).map_err(|e| StoreError::io("create the folder", dest, e))?;
        let folders: BTreeSet<PathBuf> =
            entries.iter().filter_map(|e| dest.join(&e.path).parent().map(Path::to_owned)).collect();
        for folder in folders {
            fs::create_dir_all(&folder).map_err(|e| StoreError::io("create the folder", &folder, e))?;
        }
        entries.par_iter().try_for_each(|e| self.place_blob(&e.digest, e.size, &dest.join(&e.path)))
    }

    fn place_blob(&self, digest: &Digest, size: u64, dest: &Path) -> Result<(), StoreError> {
        let write = |e| StoreError::io("write", dest, e);
        let mut blob = self.open_blob(digest)?;
        let readers = permission::readers(&blob.metadata().map_err(|e| self.unreadable(digest, &blob, e))?);
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(permission::given_out(readers))
            .open(dest)
            .map_err(write)?;
        let found = if disk::reflink(&blob, &file) {
            Digest::of_reader(&mut &file).map_err(write)?.0
        } else {
            let path = self.blob_path(digest);
            match copy(&mut blob, &file, &path, dest) {
                // Only reading names the blob's path.
                Err(StoreError::Io { path: at, source, .. }) if at == path => {
                    return Err(self.unreadable(digest, &blob, source));
                }
                other => other?,
            }
        };
        let length = file.metadata().map_err(write)?.len();
        if found != *digest {
            return Err(self.damaged(digest, &blob, format!("its {length} bytes have another digest")));
        }
        if length != size {
            let why = format!("the record says {size} bytes, the store has {length}");
            return Err(StoreError::Damaged { digest: *digest, why, aside: None });
        }
        Ok(())
    }
}
