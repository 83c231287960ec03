//! Reading bytes back, and knowing whether they are still the ones that were put in.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::{Digest, Object, ObjectKind, Store, StoreError, tree};

impl Store {
    /// The bytes of a blob, verified against its name.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut file = self.open_blob(digest)?;
        let mut bytes = Vec::new();
        if let Err(e) = file.read_to_end(&mut bytes) {
            return Err(self.unreadable(digest, &file, e));
        }
        if Digest::of(&bytes) != *digest {
            return Err(self.damaged(digest, &file, format!("its {} bytes have another digest", bytes.len())));
        }
        Ok(bytes)
    }

    /// Whether every blob of the object is here with its size. Cheap: it looks at sizes, and reads only a tree's
    /// listing. Bytes that changed within their size are found by [`Store::check`], [`Store::read`] and
    /// [`Store::place`].
    pub fn present(&self, object: &Object) -> bool {
        let there = |digest: &Digest, size: u64| {
            fs::symlink_metadata(self.blob_path(digest)).is_ok_and(|m| m.is_file() && m.len() == size)
        };
        match object.kind {
            ObjectKind::Blob => there(&object.digest, object.size),
            ObjectKind::Tree => self.tree(&object.digest).is_ok_and(|entries| {
                tree::total(&entries) == Some(object.size) && entries.iter().all(|e| there(&e.digest, e.size))
            }),
        }
    }

    /// Reads every byte of the object. A damaged blob is moved to `damaged/` and reported; the first trouble is the
    /// error, but all blobs are looked at.
    pub fn check(&self, object: &Object) -> Result<(), StoreError> {
        match object.kind {
            ObjectKind::Blob => self.check_blob(&object.digest, object.size),
            ObjectKind::Tree => {
                let entries = self.tree(&object.digest)?;
                let mut result = Ok(());
                for entry in &entries {
                    result = result.and(self.check_blob(&entry.digest, entry.size));
                }
                if tree::total(&entries) != Some(object.size) {
                    result = result.and(Err(wrong_size(object)));
                }
                result
            }
        }
    }

    pub(crate) fn check_blob(&self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let mut file = self.open_blob(digest)?;
        let (found, length) = match Digest::of_reader(&mut file) {
            Ok(read) => read,
            Err(e) => return Err(self.unreadable(digest, &file, e)),
        };
        if found != *digest {
            return Err(self.damaged(digest, &file, format!("its {length} bytes have another digest")));
        }
        if length != size {
            return Err(wrong_size(&Object { digest: *digest, kind: ObjectKind::Blob, size }));
        }
        Ok(())
    }

    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing { digest: *digest, path }),
            Err(e) => Err(StoreError::io("read", &path, e)),
        }
    }

    /// A disk that cannot give the bytes back has damaged them; any other trouble may pass.
    pub(crate) fn unreadable(&self, digest: &Digest, file: &File, error: io::Error) -> StoreError {
        match error.raw_os_error() {
            Some(libc::EIO) => self.damaged(digest, file, format!("it cannot be read: {error}")),
            _ => StoreError::io("read", &self.blob_path(digest), error),
        }
    }

    /// Moves the blob that `file` was opened from aside, unless somebody has replaced it with a whole one since.
    pub(crate) fn damaged(&self, digest: &Digest, file: &File, why: String) -> StoreError {
        let path = self.blob_path(digest);
        let aside = if same_file(file, &path) { self.set_aside(&path) } else { None };
        self.warn(&path, format!("damaged: {why}"), aside.clone());
        StoreError::Damaged { digest: *digest, why, aside }
    }
}

/// The bytes are whole, so the one who asked has a wrong idea of their size.
fn wrong_size(object: &Object) -> StoreError {
    StoreError::Damaged {
        digest: object.digest,
        why: format!("the record says {} bytes, the store has another number", object.size),
        aside: None,
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}
