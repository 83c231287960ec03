//! Folders of files: what is in them, their digest, copies.

use anyhow::{Context as _, Result};
use opdflow_stage::cache::Digest;
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

/// All files below `folder`, relative to it, sorted.
///
/// # Errors
/// The folder cannot be read.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    fn walk(folder: &Path, relative: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
        let here = folder.join(relative);
        for entry in std::fs::read_dir(&here).with_context(|| format!("reading the folder {}", here.display()))? {
            let entry = entry?;
            let below = relative.join(entry.file_name());
            if entry.path().is_dir() { walk(folder, &below, found)? } else { found.push(below) }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(folder, Path::new(""), &mut found)?;
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
