//! Temporary files and folders beside a place outside the store, such as where an archive is to be.
//!
//! They are locked while their maker lives, so that whoever comes later can tell what a killed process left. Other hosts may
//! not see the lock: their names tell of which host they are, and each host removes its own only.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::{Builder, NamedTempFile, TempDir};

use crate::files::disk::{list, still_there};
use crate::{Host, StoreError};

const PREFIX: &str = ".opdflow-part-";

/// How the names of this host's begin.
fn prefix() -> String {
    static TAG: OnceLock<String> = OnceLock::new();
    format!("{PREFIX}{}-", TAG.get_or_init(|| Host::this().tag))
}

/// Letters that make a name unique.
const LETTERS: usize = 6;

/// A folder that is removed with what is in it when this is dropped.
pub(crate) struct BesideFolder {
    folder: TempDir,
    _lock: File,
}

impl BesideFolder {
    pub(crate) fn new(parent: &Path) -> Result<BesideFolder, StoreError> {
        let failed = |e| StoreError::io("write in", parent, e);
        loop {
            let folder = Builder::new().prefix(&prefix()).rand_bytes(LETTERS).tempdir_in(parent).map_err(failed)?;
            // `sweep` may come between: then it is made again. One that another was made in place of is not ours to
            // remove, and cannot be: names are random.
            let Ok(lock) = File::open(folder.path()) else { continue };
            // A file system without locks leaves it to its users to remove what a kill left.
            let _ = lock.try_lock();
            if still_there(&lock, folder.path()) {
                return Ok(BesideFolder { folder, _lock: lock });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder where it is.
    pub(crate) fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

/// A file that is removed when it is dropped, of this mode less the user's mask.
pub(crate) fn file(parent: &Path, mode: u32) -> Result<NamedTempFile, StoreError> {
    let failed = |e| StoreError::io("write in", parent, e);
    loop {
        let (mut builder, prefix) = (Builder::new(), prefix());
        builder.prefix(&prefix).rand_bytes(LETTERS).permissions(Permissions::from_mode(mode));
        let temp = builder.tempfile_in(parent).map_err(failed)?;
        let _ = temp.as_file().try_lock();
        if still_there(temp.as_file(), temp.path()) {
            return Ok(temp);
        }
    }
}

/// Removes what killed processes left in a folder. Best effort.
pub(crate) fn sweep(parent: &Path) {
    let tagged = prefix();
    let ours = |path: &Path| {
        let name = path.file_name().and_then(|n| n.to_str());
        // Older programs named no host.
        let rest = name.and_then(|n| n.strip_prefix(&tagged).or_else(|| n.strip_prefix(PREFIX)));
        rest.is_some_and(|r| r.len() == LETTERS && r.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    for path in list(parent).unwrap_or_default().into_iter().filter(|p| ours(p)) {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if !meta.is_dir() && !meta.is_file() {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() && still_there(&file, &path) {
            let _ = if meta.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_or_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, temp) = (BesideFolder::new(dir.path()).unwrap(), file(dir.path(), 0o644).unwrap());
        // What a kill leaves has nobody's lock.
        fs::create_dir_all(dir.path().join(".opdflow-part-aaaaaa/whole")).unwrap();
        fs::write(dir.path().join(".opdflow-part-bbbbbb"), "half").unwrap();
        fs::write(dir.path().join(format!("{}dddddd", prefix())), "half").unwrap();
        // Another host's, whose lock may not be seen here.
        fs::write(dir.path().join(".opdflow-part-01234567-eeeeee"), "half").unwrap();
        for other in [".opdflow", ".opdflow-part-notes", ".opdflow-part-a.b.cd", "opdflow-part-cccccc"] {
            fs::write(dir.path().join(other), "mine").unwrap();
        }
        sweep(dir.path());
        let names = |dir: &Path| list(dir).unwrap().len();
        assert!(folder.path().exists() && temp.path().exists());
        assert_eq!(names(dir.path()), 7);
        drop((folder, temp));
        assert_eq!(names(dir.path()), 5);
    }
}
