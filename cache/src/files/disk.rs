//! Writing so that it is still there after the power went.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::StoreError;
use crate::files::failpoint::failpoint;

/// Makes the names inside a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| StoreError::io("sync", dir, e))
}

/// Creates a folder and its parents; the new names are durable.
pub(crate) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_dir(parent)?;
    match fs::create_dir(dir) {
        Ok(()) => sync_dir(parent),
        // Another process was faster.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(StoreError::io("create the folder", dir, e)),
    }
}

/// Creates a folder that only its owner may enter, and its parents as usual. One that is there stays as it is.
pub(crate) fn make_private_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_dir(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => sync_dir(parent),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(StoreError::io("create the folder", dir, e)),
    }
}

/// Device and inode of what a path leads to, without following a link at its end; nothing if there is nothing.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Whether the open file is still the one that its path leads to.
pub(crate) fn still_there(file: &File, path: &Path) -> bool {
    file.metadata().is_ok_and(|meta| Some((meta.dev(), meta.ino())) == identity(path))
}

/// What is in a folder, sorted; nothing if there is no such folder. A folder that cannot be listed is an error, for
/// a sweep that took it for empty would sweep too much.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |e| StoreError::io("list", dir, e);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(failed(e)),
    };
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    paths.sort_unstable();
    Ok(paths)
}

/// A new file in `tmp`. Its mode is `mode` less the user's mask.
pub(crate) fn temp_file(tmp: &Path, mode: u32) -> Result<NamedTempFile, StoreError> {
    tempfile::Builder::new()
        .prefix("new-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(tmp)
        .map_err(|e| StoreError::io("write in", tmp, e))
}

/// Writes `bytes` to a temp file and makes them durable. `step` names the failpoints.
pub(crate) fn temp_bytes(tmp: &Path, bytes: &[u8], step: &str) -> Result<NamedTempFile, StoreError> {
    let mut temp = temp_file(tmp, 0o644)?;
    let write = |temp: &mut NamedTempFile| -> io::Result<()> {
        temp.write_all(bytes)?;
        failpoint(&format!("{step}-written"))?;
        temp.as_file().sync_all()?;
        failpoint(&format!("{step}-synced"))
    };
    write(&mut temp).map_err(|e| StoreError::io("write", temp.path(), e))?;
    Ok(temp)
}

/// Puts a file of these bytes at `dest`, whole or not at all, over whatever was there.
pub(crate) fn replace(tmp: &Path, dest: &Path, bytes: &[u8], step: &str) -> Result<(), StoreError> {
    let temp = temp_bytes(tmp, bytes, step)?;
    temp.persist(dest).map_err(|e| StoreError::io("write", dest, e.error))?;
    failpoint(&format!("{step}-renamed")).map_err(|e| StoreError::io("write", dest, e))?;
    match dest.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Puts a file of these bytes at `dest`, whole or not at all; false if `dest` exists.
pub(crate) fn create(tmp: &Path, dest: &Path, bytes: &[u8], step: &str) -> Result<bool, StoreError> {
    let temp = temp_bytes(tmp, bytes, step)?;
    match temp.persist_noclobber(dest) {
        Ok(_) => {}
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(e) => return Err(StoreError::io("write", dest, e.error)),
    }
    failpoint(&format!("{step}-renamed")).map_err(|e| StoreError::io("write", dest, e))?;
    if let Some(parent) = dest.parent() {
        sync_dir(parent)?;
    }
    Ok(true)
}

/// Whether this machine's own kernel keeps a file, and its times. A file system that is not known to do so may be a server's.
pub(crate) fn is_local(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        // Numbers of linux/magic.h and of the file systems' own headers: ext2 to 4, xfs, btrfs, tmpfs, ramfs, overlay, zfs, f2fs,
        // bcachefs.
        const OWN: [u64; 9] = [
            0xEF53,
            0x5846_5342,
            0x9123_683E,
            0x0102_1994,
            0x8584_58F6,
            0x794C_7630,
            0x2FC1_2FC1,
            0xF2F5_2010,
            0xCA45_1A4E,
        ];
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
        let mut of = std::mem::MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: the path is NUL-terminated, and the call fills the struct where it returns 0.
        let kind = unsafe {
            if libc::statfs(path.as_ptr(), of.as_mut_ptr()) != 0 {
                return false;
            }
            of.assume_init().f_type
        };
        u64::try_from(kind).is_ok_and(|kind| OWN.contains(&kind))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}

/// The bytes of a small file that others replace. On a network file system the one that was opened may be gone before it
/// is read (`ESTALE`): then the one in its place is read.
pub(crate) fn read_replaced(path: &Path) -> io::Result<Vec<u8>> {
    let mut read = fs::read(path);
    for _ in 0..8 {
        match &read {
            Err(e) if e.raw_os_error() == Some(libc::ESTALE) => read = fs::read(path),
            _ => break,
        }
    }
    read
}

/// Sets a file's time of modification to now, by the file system's own clock.
pub(crate) fn touch(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open; no times means now.
    match unsafe { libc::futimens(file.as_raw_fd(), std::ptr::null()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes every file and folder below `dir`, and `dir`, durable.
pub(crate) fn sync_below(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(|e| StoreError::io("list", dir, e))? {
        let entry = entry.map_err(|e| StoreError::io("list", dir, e))?;
        let path = entry.path();
        if entry.file_type().map_err(|e| StoreError::io("look at", &path, e))?.is_dir() {
            sync_below(&path)?;
        } else {
            File::open(&path).and_then(|f| f.sync_all()).map_err(|e| StoreError::io("sync", &path, e))?;
        }
    }
    sync_dir(dir)
}

/// How [`rename`] treats a name that is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Fail with `AlreadyExists`.
    Refuse,
    /// Swap the two in one step.
    Swap,
}

/// Renames in one step, with a rule for a name that is taken.
pub(crate) fn rename(from: &Path, to: &Path, taken: Taken) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let flag = match taken {
            Taken::Refuse => libc::RENAME_NOREPLACE,
            Taken::Swap => libc::RENAME_EXCHANGE,
        };
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
        let (old, new) = (text(from)?, text(to)?);
        // SAFETY: both are NUL-terminated and outlive the call.
        let done = unsafe { libc::renameat2(libc::AT_FDCWD, old.as_ptr(), libc::AT_FDCWD, new.as_ptr(), flag) };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // Some network file systems have no flags: they get the two-step way below.
        if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)) {
            return Err(error);
        }
    }
    match taken {
        Taken::Refuse if to.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Taken::Refuse => fs::rename(from, to),
        Taken::Swap => {
            let mut beside = from.as_os_str().to_owned();
            beside.push(".swap");
            fs::rename(to, &beside)?;
            fs::rename(from, to)?;
            fs::rename(&beside, from)
        }
    }
}

/// A second name for the same bytes on file systems that share blocks (btrfs, xfs, bcachefs): copy on write, so
/// writing to one never shows in the other. False where that cannot be done.
pub(crate) fn reflink(from: &File, to: &File) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: both descriptors are open; the call takes nothing else.
        unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (from, to);
        false
    }
}

/// Bytes that a user without privileges may still write to the file system of a folder; none where that is not told.
pub(crate) fn free(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut room = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is NUL-terminated, and the call fills the struct where it returns 0.
    let room = unsafe {
        if libc::statvfs(path.as_ptr(), room.as_mut_ptr()) != 0 {
            return None;
        }
        room.assume_init()
    };
    #[expect(clippy::useless_conversion, reason = "the fields are narrower on some systems")]
    u64::from(room.f_bavail).checked_mul(u64::from(room.f_frsize))
}
