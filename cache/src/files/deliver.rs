//! Giving an output to the user: to a place of theirs, and again to the same place.
//!
//! What lies at such a place is replaced only if this store wrote it there, and nobody changed it since. So that this
//! can be told, the store remembers of each folder that it wrote what it wrote:
//!
//! ```text
//! placed/<digest of the folder's path>.json     the files, sealed
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::beside::{self, BesideFolder};
use crate::files::disk::{self, list};
use crate::files::sealed;
use crate::{Digest, Object, ObjectKind, Store, StoreError, TreeEntry};

/// So many strange things in a folder are named.
const NAMED: usize = 5;

/// A folder that was written.
#[derive(Debug, Serialize, Deserialize)]
struct Delivery {
    path: PathBuf,
    files: Vec<TreeEntry>,
}

/// What is given out.
struct Parcel<'a> {
    kind: ObjectKind,
    /// Of a folder, the files.
    files: &'a dyn Fn() -> Result<Vec<TreeEntry>, StoreError>,
    /// Writes it to a path where nobody looks yet.
    write: &'a dyn Fn(&Path) -> Result<(), StoreError>,
}

impl Store {
    /// As [`Store::place`], to a place of the user's. With `overwrite`, what is there is replaced: a file by a file; a
    /// folder by a folder, if all that it holds was written there by this store, or is the same in the new one. It stays
    /// until the new thing is whole.
    ///
    /// Refuses to write into the store, and to replace the store, the working folder, the home folder, or what holds one
    /// of them; links; and what is neither a file nor a folder.
    pub fn deliver(&self, object: &Object, dest: &Path, overwrite: bool) -> Result<(), StoreError> {
        let files = || if object.kind == ObjectKind::Tree { self.tree(&object.digest) } else { Ok(Vec::new()) };
        let write = |to: &Path| self.place_at(object, to, &|_| true);
        self.hand_over(&Parcel { kind: object.kind, files: &files, write: &write }, dest, overwrite)
    }

    /// As [`Store::deliver`], of a file, or a folder of files and folders that are not empty, that was made of the store's objects and lies at `made`.
    pub fn deliver_made(&self, made: &Path, dest: &Path, overwrite: bool) -> Result<(), StoreError> {
        let failed = |e| StoreError::io("write", dest, e);
        let copy = |from: &Path, to: &Path| fs::copy(from, to).map(drop).map_err(failed);
        if !made.is_dir() {
            let parcel =
                Parcel { kind: ObjectKind::Blob, files: &|| Ok(Vec::new()), write: &|to: &Path| copy(made, to) };
            return self.hand_over(&parcel, dest, overwrite);
        }
        let entry = |file: PathBuf| -> Result<TreeEntry, StoreError> {
            let path = made.join(&file);
            let size = fs::metadata(&path).map_err(|e| StoreError::io("read", &path, e))?.len();
            Ok(TreeEntry { path: file.to_string_lossy().into_owned(), digest: Digest::of_file(&path)?, size })
        };
        let files = || below(made, Path::new(""))?.into_iter().map(entry).collect();
        let write = |to: &Path| {
            fs::create_dir(to).map_err(failed)?;
            below(made, Path::new(""))?.iter().try_for_each(|file| {
                let dest = to.join(file);
                dest.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
                copy(&made.join(file), &dest)
            })
        };
        self.hand_over(&Parcel { kind: ObjectKind::Tree, files: &files, write: &write }, dest, overwrite)
    }

    fn hand_over(&self, parcel: &Parcel, dest: &Path, overwrite: bool) -> Result<(), StoreError> {
        // Without a slash at its end, which would lead through a link.
        let dest: PathBuf = dest.components().collect();
        let dest = dest.as_path();
        self.refuse_store(dest)?;
        if let Some(parent) = dest.parent() {
            beside::sweep(if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        }
        let there = match dest.symlink_metadata() {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.place_new(dest, parcel.write)?;
                self.remember(parcel, dest);
                return Ok(());
            }
            Err(e) => return Err(StoreError::io("look at", dest, e)),
        };
        if !overwrite {
            return Err(StoreError::Exists { path: dest.to_owned() });
        }
        let refuse = |why: &str| Err(StoreError::Protected { path: dest.to_owned(), why: why.to_owned() });
        match parcel.kind {
            _ if there.is_symlink() => refuse("it is a symbolic link"),
            ObjectKind::Blob if there.is_file() => self.replace_file(parcel, dest),
            ObjectKind::Tree if there.is_dir() => self.replace_folder(parcel, dest),
            ObjectKind::Blob if there.is_dir() => refuse("it is a folder, and the output is a file"),
            ObjectKind::Tree if there.is_file() => refuse("it is a file, and the output is a folder"),
            _ => refuse("it is neither a file nor a folder"),
        }
    }

    fn replace_file(&self, parcel: &Parcel, dest: &Path) -> Result<(), StoreError> {
        let beside = BesideFolder::new(parent_of(dest))?;
        let fresh = beside.path().join("whole");
        (parcel.write)(&fresh)?;
        fs::rename(&fresh, dest).map_err(|e| StoreError::io("write", dest, e))
    }

    fn replace_folder(&self, parcel: &Parcel, dest: &Path) -> Result<(), StoreError> {
        let real = dest.canonicalize().map_err(|e| StoreError::io("look at", dest, e))?;
        refuse_holding(dest, &real)?;
        let mut known = Known::new();
        for entry in self.remembered(&real).into_iter().chain((parcel.files)()?) {
            known.entry(PathBuf::from(entry.path)).or_default().push((entry.size, entry.digest));
        }
        let old = files_of(dest, &known)?;
        let beside = BesideFolder::new(parent_of(dest))?;
        let whole = beside.path().join("whole");
        (parcel.write)(&whole)?;
        disk::rename(&whole, dest, disk::Taken::Swap).map_err(|e| StoreError::io("write", dest, e))?;
        self.remember(parcel, dest);
        // Only what was looked at goes. What came into the old folder meanwhile is left, and told of.
        for file in &old {
            let _ = fs::remove_file(whole.join(file));
        }
        if remove_empty(&whole) {
            return Ok(());
        }
        let left = beside.keep().join("whole");
        Err(StoreError::Protected {
            path: left,
            why: format!("it came into {} while that was replaced, which is done, and was kept here", dest.display()),
        })
    }

    /// Nothing is written into the store from outside.
    pub(crate) fn refuse_store(&self, dest: &Path) -> Result<(), StoreError> {
        let refuse = |why: &str| Err(StoreError::Protected { path: dest.to_owned(), why: why.to_owned() });
        let real = real(dest);
        if real.starts_with(self.root()) {
            return refuse("it lies in the store, or is the store");
        }
        if self.root().starts_with(&real) {
            return refuse("the store lies in it");
        }
        Ok(())
    }

    fn delivery_path(&self, real: &Path) -> PathBuf {
        let digest = Digest::of(real.as_os_str().as_encoded_bytes());
        self.folder("placed").join(format!("{digest}.json"))
    }

    /// Best effort: what is not remembered is not replaced.
    fn remember(&self, parcel: &Parcel, dest: &Path) {
        if parcel.kind != ObjectKind::Tree {
            return;
        }
        let write = || -> Result<(), StoreError> {
            let path = dest.canonicalize().map_err(|e| StoreError::io("look at", dest, e))?;
            let at = self.delivery_path(&path);
            let text = sealed::seal(&Delivery { path, files: (parcel.files)()? })
                .map_err(|e| StoreError::io("write", &at, e.into()))?;
            self.make_dir(&self.folder("placed"))?;
            disk::replace(&self.tmp(), &at, text.as_bytes(), "placed")
        };
        if let Err(e) = write() {
            self.warn(dest, format!("it will not be replaced by a later `get --overwrite`: {e}"), None);
        }
    }

    fn remembered(&self, real: &Path) -> Vec<TreeEntry> {
        let bytes = fs::read(self.delivery_path(real)).unwrap_or_default();
        let found = sealed::unseal_as::<Delivery>(&bytes).ok().filter(|d| d.path == real);
        found.map_or_else(Vec::new, |d| d.files)
    }

    /// What is remembered of places where there is nothing any more.
    pub(crate) fn stale_deliveries(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut paths = list(&self.folder("placed"))?;
        paths.retain(|path| {
            let found = sealed::unseal_as::<Delivery>(&fs::read(path).unwrap_or_default());
            found.map_or(true, |d| matches!(d.path.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound))
        });
        Ok(paths)
    }
}

/// Sizes and digests that a file may have, by its path.
type Known = BTreeMap<PathBuf, Vec<(u64, Digest)>>;

/// The files of a folder, relative to it, if all of them are among `known` by path and bytes. Anything else, an empty
/// folder or a link among them, is named in the error.
fn files_of(dir: &Path, known: &Known) -> Result<Vec<PathBuf>, StoreError> {
    let (mut files, mut strange) = (Vec::new(), Vec::new());
    look(dir, Path::new(""), known, &mut files, &mut strange)?;
    if strange.is_empty() {
        return Ok(files);
    }
    let more = strange.len().saturating_sub(NAMED);
    strange.truncate(NAMED);
    Err(StoreError::Foreign { path: dir.to_owned(), found: strange, more })
}

fn look(
    dir: &Path,
    below: &Path,
    known: &Known,
    files: &mut Vec<PathBuf>,
    strange: &mut Vec<String>,
) -> Result<(), StoreError> {
    for path in list(dir)? {
        let name = below.join(path.file_name().unwrap_or_default());
        let meta = path.symlink_metadata().map_err(|e| StoreError::io("look at", &path, e))?;
        if meta.is_dir() && !list(&path)?.is_empty() {
            look(&path, &name, known, files, strange)?;
            continue;
        }
        let alike = known.get(&name).map_or(&[][..], Vec::as_slice);
        let may_be = meta.is_file() && alike.iter().any(|(size, _)| *size == meta.len());
        let digest = if may_be { Some(Digest::of_file(&path)?) } else { None };
        if alike.iter().any(|(_, known)| Some(*known) == digest) {
            files.push(name);
        } else {
            strange.push(name.display().to_string());
        }
    }
    Ok(())
}

/// The files below `dir/folder`, relative to `dir`.
fn below(dir: &Path, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    for path in list(&dir.join(folder))? {
        let file = folder.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            found.extend(below(dir, &file)?);
        } else {
            found.push(file);
        }
    }
    Ok(found)
}

/// Removes folders that hold nothing but folders; whether all of it is gone.
fn remove_empty(dir: &Path) -> bool {
    for path in list(dir).unwrap_or_default() {
        if path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            remove_empty(&path);
        }
    }
    fs::remove_dir(dir).is_ok()
}

/// Folders that other things depend on are not replaced, whatever they hold.
fn refuse_holding(dest: &Path, real: &Path) -> Result<(), StoreError> {
    let refuse = |why: &str| Err(StoreError::Protected { path: dest.to_owned(), why: why.to_owned() });
    match std::env::current_dir().and_then(|d| d.canonicalize()) {
        Ok(here) if here.starts_with(real) => return refuse("it is, or holds, the current folder"),
        Ok(_) => {}
        Err(e) => return refuse(&format!("the current folder is not known: {e}")),
    }
    let home = std::env::var_os("HOME").filter(|h| !h.is_empty()).map(PathBuf::from);
    if home.and_then(|h| h.canonicalize().ok()).is_some_and(|home| home.starts_with(real)) {
        return refuse("it is, or holds, the home folder");
    }
    Ok(())
}

/// The path with its links resolved, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut at = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    loop {
        if let Ok(found) = at.canonicalize() {
            return missing.iter().rev().fold(found, |path, name| path.join(name));
        }
        match at.file_name().map(ToOwned::to_owned) {
            Some(name) => missing.push(name),
            None => return path.to_owned(),
        }
        at.pop();
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
