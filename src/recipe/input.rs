//! Reading a file that somebody named: plain files only, and no more of one than a text of its sort can be.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Most bytes of a recipe, a file of variables or another text that people write.
pub const MOST: u64 = 32 << 20;

/// The bytes of a plain file of at most [`MOST`] bytes. Nothing is waited for: a named pipe, a terminal or a device has no
/// end that could be counted on, and is refused by name.
///
/// # Errors
/// The system's, or one in words of what the path is or how large.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for somebody who writes.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        let kind = meta.file_type();
        let what = match () {
            () if kind.is_dir() => "a folder",
            () if kind.is_fifo() => "a named pipe",
            () if kind.is_socket() => "a socket",
            () => "a device",
        };
        return Err(io::Error::other(format!("it is {what}, and must be a plain file: write its text into one")));
    }
    let mut bytes = Vec::new();
    // Files below /proc say that they are empty, and some of them have no end.
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::other(format!("it is larger than {} MiB", MOST >> 20)));
    }
    Ok(bytes)
}

/// The same, as text.
///
/// # Errors
/// As there, or the file is no UTF-8 text.
pub fn read_text(path: &Path) -> io::Result<String> {
    let broken = |e: std::string::FromUtf8Error| {
        let at = e.utf8_error().valid_up_to();
        io::Error::new(io::ErrorKind::InvalidData, format!("byte {at} is no part of UTF-8 text"))
    };
    String::from_utf8(read(path)?).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_of_some_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let said = |path: &Path| read(path).unwrap_err().to_string();
        std::fs::write(at("a"), "x").unwrap();
        std::os::unix::fs::symlink(at("a"), at("link")).unwrap();
        assert_eq!(read(&at("a")).unwrap(), b"x");
        assert_eq!(read_text(&at("link")).unwrap(), "x");
        assert!(said(folder.path()).contains("a folder"));
        assert!(said(Path::new("/dev/zero")).contains("a device"));
        let pipe = std::ffi::CString::new(at("pipe").to_str().unwrap()).unwrap();
        // SAFETY: the path ends with a zero byte.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        assert!(said(&at("pipe")).contains("a named pipe"));
        let large = File::create(at("large")).unwrap();
        large.set_len(MOST).unwrap();
        assert_eq!(read(&at("large")).unwrap().len() as u64, MOST);
        large.set_len(MOST + 1).unwrap();
        assert!(said(&at("large")).contains("larger than 32 MiB"));
        std::fs::write(at("bytes"), [b'a', 0xff]).unwrap();
        assert!(read_text(&at("bytes")).unwrap_err().to_string().contains("byte 1"));
        assert_eq!(read(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
