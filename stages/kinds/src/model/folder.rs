//! Folders of files: what is in them, their digest, copies.

use anyhow::{Context as _, Result, ensure};
use opdflow_api::cache::Digest;
use opdflow_io::file;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Digest of a list of files: names and contents, each with its length, in the order of names.
pub fn listing_digest<'a>(files: impl Iterator<Item = (&'a Path, Digest)>) -> Digest {
    let mut lines: Vec<(String, Digest)> = files.map(|(p, d)| (p.to_string_lossy().replace('\\', "/"), d)).collect();
    lines.sort();
    let mut bytes = Vec::new();
    for (name, digest) in lines {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(digest.to_string().as_bytes());
    }
    Digest::of(&bytes)
}

/// All files below `folder`, relative to it, sorted. Symbolic links are followed.
///
/// # Errors
/// The folder cannot be read, holds something that is neither a regular file nor a folder, or leads back into itself.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    fn walk(folder: &Path, relative: &Path, above: &mut Vec<(u64, u64)>, found: &mut Vec<PathBuf>) -> Result<()> {
        let here = folder.join(relative);
        let meta = std::fs::metadata(&here).with_context(|| format!("reading the folder {}", here.display()))?;
        let id = (meta.dev(), meta.ino());
        ensure!(!above.contains(&id), "{}: this link leads back to a folder that it lies in", here.display());
        above.push(id);
        for entry in std::fs::read_dir(&here).with_context(|| format!("reading the folder {}", here.display()))? {
            let below = relative.join(entry?.file_name());
            let path = folder.join(&below);
            if path.is_dir() {
                walk(folder, &below, above, found)?;
            } else {
                file::regular(&path).with_context(|| path.display().to_string())?;
                found.push(below);
            }
        }
        above.pop();
        Ok(())
    }
    let mut found = Vec::new();
    walk(folder, Path::new(""), &mut Vec::new(), &mut found)?;
    found.sort();
    Ok(found)
}

/// Copies the files below `from` that `keep` accepts.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy(from: &Path, to: &Path, keep: impl Fn(&Path) -> bool) -> Result<()> {
    for relative in files_below(from)?.iter().filter(|p| keep(p)) {
        let path = to.join(relative);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::copy(from.join(relative), &path).with_context(|| format!("copying {}", relative.display()))?;
    }
    Ok(())
}

/// Puts a copy of `from` where `to` was.
///
/// # Errors
/// A file cannot be read or written.
pub fn replace(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| to.display().to_string())?;
    }
    copy(from, to, |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_but_not_round_in_a_circle() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("blobs")).unwrap();
        std::fs::create_dir_all(at("model/part")).unwrap();
        std::fs::write(at("blobs/x"), "1").unwrap();
        symlink("../../blobs/x", at("model/part/file")).unwrap();
        symlink("../blobs", at("model/linked")).unwrap();
        symlink("../blobs", at("model/again")).unwrap();
        let found = files_below(&at("model")).unwrap();
        assert_eq!(found, ["again/x", "linked/x", "part/file"].map(PathBuf::from));
        symlink("..", at("model/part/up")).unwrap();
        let error = format!("{:#}", files_below(&at("model")).unwrap_err());
        assert!(error.contains("model/part/up: this link leads back"), "{error}");
        std::fs::remove_file(at("model/part/up")).unwrap();
        symlink("/dev/zero", at("model/part/zero")).unwrap();
        let error = format!("{:#}", files_below(&at("model")).unwrap_err());
        assert!(error.contains("model/part/zero: is a device, expected a regular file"), "{error}");
    }
}
