//! Opening files that users name. Only regular files are opened: a pipe would hang, a device may never end or do
//! something when it is opened.

use crate::text;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The most bytes that are read of a file that describes something: configurations, indices, tokenizers (T5's is 2 MB,
/// the largest published ones 40 MB).
pub const DESCRIPTION: u64 = 256 << 20;

/// Opens a regular file for reading; symbolic links are followed. Never blocks.
///
/// # Errors
/// There is nothing ([`ErrorKind::NotFound`]; a link that leads nowhere says so), something that is no regular file
/// ([`ErrorKind::InvalidInput`], named), or no permission. The path is not in the message.
pub fn open(path: &Path) -> Result<File> {
    // Looked at before it is opened: opening some devices has consequences.
    regular(path)?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = file.map_err(|e| explained(path, e))?;
    // And again what was opened: it may have been exchanged in between.
    refuse(file.metadata()?.file_type())?;
    Ok(file)
}

/// What the file system says of a regular file.
///
/// # Errors
/// As [`open`].
pub fn regular(path: &Path) -> Result<Metadata> {
    let meta = std::fs::metadata(path).map_err(|e| explained(path, e))?;
    refuse(meta.file_type())?;
    Ok(meta)
}

/// Whether anything has this name, even a symbolic link that leads nowhere. For files that may be left out: what is
/// there and cannot be read is then an error, and not as if it were left out.
#[must_use]
pub fn is_named(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`]; more bytes than that, even if the file grows while it is read.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    let long = |bytes| Error::new(ErrorKind::FileTooLarge, format!("has {bytes} bytes, at most {most} are read"));
    if length > most {
        return Err(long(length.to_string()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(long(format!("more than {most}"))) } else { Ok(bytes) }
}

/// Reads a text file of at most `most` bytes; a byte order mark is left out.
///
/// # Errors
/// As [`read`]; bytes that are no UTF-8 text ([`ErrorKind::InvalidData`]).
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    text::decode(read(path, most)?).map_err(|e| Error::new(ErrorKind::InvalidData, e))
}

/// What a file of this type is called, if it is not a regular one.
#[must_use]
pub fn special(kind: FileType) -> Option<&'static str> {
    Some(match kind {
        k if k.is_file() => return None,
        k if k.is_dir() => "a folder",
        k if k.is_fifo() => "a named pipe (FIFO)",
        k if k.is_socket() => "a socket",
        k if k.is_symlink() => "a symbolic link",
        _ => "a device",
    })
}

fn refuse(kind: FileType) -> Result<()> {
    match special(kind) {
        None => Ok(()),
        Some(what) => Err(Error::new(ErrorKind::InvalidInput, format!("is {what}, expected a regular file"))),
    }
}

/// The system's error, in words where links are to blame.
fn explained(path: &Path, error: Error) -> Error {
    if error.raw_os_error() == Some(libc::ELOOP) {
        return Error::new(ErrorKind::InvalidInput, "is a symbolic link that leads round in a circle");
    }
    match (error.kind(), std::fs::read_link(path)) {
        (ErrorKind::NotFound, Ok(to)) => {
            Error::new(ErrorKind::NotFound, format!("is a symbolic link to {}, where nothing is", to.display()))
        }
        (ErrorKind::NotFound, Err(_)) => Error::new(ErrorKind::NotFound, "there is no such file"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    /// Everything that has a name and is no regular file, and the word for it.
    fn zoo(dir: &Path) -> Vec<(PathBuf, &'static str)> {
        let at = |name: &str| dir.join(name);
        std::fs::create_dir(at("folder")).unwrap();
        let pipe = std::ffi::CString::new(at("pipe").to_str().unwrap()).unwrap();
        // SAFETY: the path is NUL-terminated.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        drop(UnixListener::bind(at("socket")).unwrap());
        symlink("nowhere", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("pipe", at("to_pipe")).unwrap();
        symlink("/dev/zero", at("to_device")).unwrap();
        vec![
            (at("folder"), "is a folder"),
            (at("pipe"), "is a named pipe (FIFO)"),
            (at("socket"), "is a socket"),
            (at("dangling"), "is a symbolic link to nowhere, where nothing is"),
            (at("loop"), "leads round in a circle"),
            (at("to_pipe"), "is a named pipe (FIFO)"),
            (at("to_device"), "is a device"),
            (PathBuf::from("/dev/zero"), "is a device"),
            (at("absent"), "there is no such file"),
        ]
    }

    #[test]
    fn whatever_is_no_regular_file_is_refused_at_once_and_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for (path, word) in zoo(dir.path()) {
            for error in [open(&path).unwrap_err(), read(&path, 10).unwrap_err()] {
                assert!(error.to_string().contains(word), "{}: {error}", path.display());
            }
        }
        assert!(is_named(&dir.path().join("dangling")) && !is_named(&dir.path().join("absent")));
    }

    #[test]
    fn a_file_is_read_whole_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "\u{feff}a\r\nb").unwrap();
        symlink(&path, dir.path().join("link")).unwrap();
        assert_eq!(read_text(&dir.path().join("link"), 100).unwrap(), "a\r\nb");
        assert_eq!(read(&path, 7).unwrap().len(), 7);
        let error = read(&path, 6).unwrap_err().to_string();
        assert_eq!(error, "has 7 bytes, at most 6 are read");
        // The length of these is not known before they are read.
        let error = read(Path::new("/proc/self/maps"), 10).unwrap_err().to_string();
        assert_eq!(error, "has more than 10 bytes, at most 10 are read");
        // A sparse file takes no memory.
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(read(&path, DESCRIPTION).unwrap_err().to_string().contains("has 1099511627776 bytes"));
    }
}
