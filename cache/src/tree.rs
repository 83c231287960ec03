//! A folder as one blob: a sorted listing of its files.
//!
//! ```text
//! opdflow tree 1
//! <digest> <size> <length of the path> <path>
//! ```
//! Paths are relative, with `/`, in byte order. The length makes each line self-delimiting, so that no file name,
//! with a newline in it or not, can pass for another line. Modes, times and empty folders are left out: they carry
//! no bytes, and would make equal results differ.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Digest, Object, ObjectKind, Store, StoreError};

const HEAD: &[u8] = b"opdflow tree 1\n";

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TreeEntry {
    /// Relative to the tree's root, with `/` between the names.
    pub path: String,
    /// The file's bytes.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

impl TreeEntry {
    /// The file as an object of its own.
    pub fn object(&self) -> Object {
        Object { digest: self.digest, kind: ObjectKind::Blob, size: self.size }
    }
}

impl Store {
    /// The files of a tree, sorted by path. The listing is verified; the files are not looked at.
    pub fn tree(&self, digest: &Digest) -> Result<Vec<TreeEntry>, StoreError> {
        let bytes = self.read(digest)?;
        decode(&bytes).map_err(|why| StoreError::Invalid { what: format!("or read {} as a tree", digest.short()), why })
    }
}

/// The digest that a folder of these files has in a store, whatever their order here.
#[must_use]
pub fn tree_digest(mut entries: Vec<TreeEntry>) -> Digest {
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Digest::of(&encode(&entries))
}

/// The bytes that the listing's digest is taken of. `entries` must be sorted by path.
pub(crate) fn encode(entries: &[TreeEntry]) -> Vec<u8> {
    let mut bytes = HEAD.to_vec();
    for entry in entries {
        bytes.extend_from_slice(format!("{} {} {} ", entry.digest, entry.size, entry.path.len()).as_bytes());
        bytes.extend_from_slice(entry.path.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// Reads a listing. Anything that `encode` would not have written is refused, in particular a path that leads out of
/// the tree.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<TreeEntry>, String> {
    let mut rest = bytes.strip_prefix(HEAD).ok_or("it is not a listing")?;
    let mut entries: Vec<TreeEntry> = Vec::new();
    while !rest.is_empty() {
        let digest = field(&mut rest)?.parse::<Digest>().map_err(|e| e.to_string())?;
        let size = number(field(&mut rest)?)?;
        let length = usize::try_from(number(field(&mut rest)?)?).map_err(|e| e.to_string())?;
        let (path, tail) = rest.split_at_checked(length).ok_or("a path is cut short")?;
        rest = tail.strip_prefix(b"\n").ok_or("a line does not end where it says")?;
        let path = std::str::from_utf8(path).map_err(|_| "a path is not UTF-8")?.to_owned();
        if entries.last().is_some_and(|last| last.path >= path) {
            return Err(format!("`{path}` is out of order"));
        }
        entries.push(TreeEntry { path, digest, size });
    }
    apart(entries.iter().map(|e| e.path.as_str()))?;
    Ok(entries)
}

/// Whether files of these paths can lie beside each other in one folder, and in no other.
pub(crate) fn apart<'a>(paths: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut files: BTreeSet<&str> = BTreeSet::new();
    for path in paths {
        if path.split('/').any(|name| matches!(name, "" | "." | "..")) || path.contains('\0') {
            return Err(format!("`{path}` is not a plain relative path"));
        }
        if !files.insert(path) {
            return Err(format!("`{path}` is there twice"));
        }
    }
    for file in &files {
        let mut above = *file;
        while let Some((folder, _)) = above.rsplit_once('/') {
            if files.contains(folder) {
                return Err(format!("`{folder}` is both a file and a folder"));
            }
            above = folder;
        }
    }
    Ok(())
}

/// Bytes of the files, or nothing if the sum does not fit.
pub(crate) fn total(entries: &[TreeEntry]) -> Option<u64> {
    entries.iter().try_fold(0_u64, |sum, entry| sum.checked_add(entry.size))
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a str, String> {
    let end = rest.iter().position(|&b| b == b' ').ok_or("a line is cut short")?;
    let (word, tail) = rest.split_at(end);
    *rest = &tail[1..];
    std::str::from_utf8(word).map_err(|e| e.to_string())
}

/// Digits only and no leading zero: one number has one spelling, so one folder has one listing.
fn number(word: &str) -> Result<u64, String> {
    let plain = word.bytes().all(|b| b.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if !plain {
        return Err(format!("`{word}` is not a plain number"));
    }
    word.parse().map_err(|e| format!("`{word}`: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &str) -> TreeEntry {
        TreeEntry { path: path.to_owned(), digest: Digest::of(path.as_bytes()), size: path.len() as u64 }
    }

    #[test]
    fn listings_that_nobody_wrote_are_refused() {
        for paths in
            [&["../up"][..], &["/etc/x"], &["a//b"], &["a/./b"], &[""], &["b", "a"], &["a", "a"], &["a", "a-b", "a/b"]]
        {
            let entries: Vec<_> = paths.iter().map(|p| entry(p)).collect();
            assert!(decode(&encode(&entries)).is_err(), "{paths:?}");
        }
        let good = encode(&[entry("a"), entry("b/c")]);
        assert!(decode(&good).is_ok());
        for cut in 1..good.len() {
            let part = decode(&good[..cut]);
            let whole_lines = good[..cut].ends_with(b"\n") && cut >= HEAD.len();
            assert_eq!(part.is_ok(), whole_lines, "cut at {cut}: {part:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = decode(&[HEAD, &bytes].concat());
        }

        #[test]
        fn a_listing_round_trips(names in proptest::collection::btree_set("[a-z \n]{1,6}", 0..10)) {
            let entries: Vec<_> = names.iter().map(|n| entry(n)).collect();
            prop_assert_eq!(decode(&encode(&entries)).unwrap(), entries);
        }
    }
}
