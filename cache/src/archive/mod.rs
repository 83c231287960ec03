//! Results in one file, for another machine's store.
//!
//! ```text
//! opdflow-archive.json     what follows, with digests and sizes, sealed
//! files/<path>             what the maker put beside the results
//! blobs/<digest>           each blob that a record or a checkpoint names, once
//! actions/<key>.json       the records, sealed, last
//! ```
//! A plain tar file. Times, users and modes are left out, so that the same results give the same bytes.

pub(crate) mod read;
pub(crate) mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::failpoint::failpoint;
use crate::files::{beside, disk, permission, sealed};
use crate::{Digest, Object, ObjectKind, Store, StoreError, TreeEntry};

/// The newest format of archives that this program reads and writes.
pub const ARCHIVE_FORMAT: u32 = 1;

pub(crate) const INDEX: &str = "opdflow-archive.json";
/// An index longer than this is none: the memory for it is taken before it can be checked. Some 700,000 blobs.
pub(crate) const INDEX_LIMIT: u64 = 64 << 20;
/// Likewise for one record. Those of the program's own stages have some kilobytes.
pub(crate) const RECORD_LIMIT: u64 = 4 << 20;

/// What goes into an archive.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// Keys whose records go in, with all that they made.
    pub keys: &'a [Digest],
    /// Lineages whose newest checkpoint goes in.
    pub lineages: &'a [Digest],
    /// Other files, by relative path.
    pub files: &'a BTreeMap<String, Vec<u8>>,
}

/// A state of something unfinished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) lineage: Digest,
    pub(crate) step: u64,
    pub(crate) elapsed_seconds: f64,
    pub(crate) files: Vec<TreeEntry>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) format: u32,
    /// Digest of each record's file, by key.
    pub(crate) actions: BTreeMap<Digest, Digest>,
    /// Sizes of the blobs that records name.
    pub(crate) blobs: BTreeMap<Digest, u64>,
    /// Sizes of those that only checkpoints have.
    pub(crate) loose: BTreeMap<Digest, u64>,
    pub(crate) checkpoints: Vec<State>,
    pub(crate) files: BTreeMap<String, (Digest, u64)>,
}

/// How much an archive holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    /// Records.
    pub records: usize,
    /// Checkpoints.
    pub checkpoints: usize,
    /// Blobs.
    pub blobs: usize,
    /// Bytes of the file.
    pub size: u64,
}

impl Store {
    /// Writes an archive. It appears whole or not at all, and never over something else. Every byte is verified on
    /// the way.
    pub fn pack(&self, dest: &Path, contents: &Contents<'_>) -> Result<Packed, StoreError> {
        if dest.symlink_metadata().is_ok() {
            return Err(StoreError::Exists { path: dest.to_owned() });
        }
        self.refuse_store(dest)?;
        let mut actions = BTreeMap::new();
        let mut blobs = BTreeMap::new();
        for key in contents.keys {
            let invalid =
                |why: String| StoreError::Invalid { what: format!("the result {} in an archive", key.short()), why };
            let record = self.action(key)?.ok_or_else(|| invalid("its record is not in the store".to_owned()))?;
            for output in record.outputs.values() {
                self.gather(&output.object, &mut blobs)?;
            }
            let text = sealed::seal(&record).map_err(|e| invalid(e.to_string()))?;
            if text.len() as u64 > RECORD_LIMIT {
                return Err(invalid(format!("its record has {} bytes, and may have {RECORD_LIMIT}", text.len())));
            }
            actions.insert(*key, text);
        }
        let (mut checkpoints, mut loose, mut held) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut places: BTreeMap<Digest, PathBuf> = blobs.keys().map(|d| (*d, self.blob_path(d))).collect();
        for lineage in contents.lineages.iter().collect::<BTreeSet<_>>() {
            let Some((head, folder)) = self.checkpoints(lineage).held_head()? else { continue };
            for (n, file) in head.files.iter().enumerate().filter(|(_, f)| !blobs.contains_key(&f.digest)) {
                loose.insert(file.digest, file.size);
                places.entry(file.digest).or_insert_with(|| folder.path().join(n.to_string()));
            }
            held.push(folder);
            let (step, elapsed_seconds, files) = (head.step, head.elapsed_seconds, head.files);
            checkpoints.push(State { lineage: *lineage, step, elapsed_seconds, files });
        }
        let index = Index {
            format: ARCHIVE_FORMAT,
            actions: actions.iter().map(|(key, text)| (*key, Digest::of(text.as_bytes()))).collect(),
            blobs,
            loose,
            checkpoints,
            files: contents.files.iter().map(|(n, b)| (n.clone(), (Digest::of(b), b.len() as u64))).collect(),
        };
        let size = self.write_archive(dest, &index, contents.files, &places, &actions)?;
        let blobs = index.blobs.len() + index.loose.len();
        Ok(Packed { records: actions.len(), checkpoints: index.checkpoints.len(), blobs, size })
    }

    /// Writes the file; how many bytes it has.
    fn write_archive(
        &self,
        dest: &Path,
        index: &Index,
        files: &BTreeMap<String, Vec<u8>>,
        places: &BTreeMap<Digest, PathBuf>,
        actions: &BTreeMap<Digest, String>,
    ) -> Result<u64, StoreError> {
        let write = |e| StoreError::io("write", dest, e);
        let head = sealed::seal(index).map_err(|e| write(e.into()))?;
        if head.len() as u64 > INDEX_LIMIT {
            let why = format!("its index would have {} bytes, and may have {INDEX_LIMIT}: export less", head.len());
            return Err(StoreError::Invalid { what: dest.display().to_string(), why });
        }
        let parent = dest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        disk::make_dir(parent)?;
        beside::sweep(parent);
        // Whoever may not read one of its parts may not read the archive.
        let mut readers = permission::ANYONE;
        for path in places.values() {
            readers &= path.metadata().map_or(readers, |meta| permission::readers(&meta));
        }
        let temp = beside::file(parent, permission::while_written(readers))?;
        let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, temp.as_file()));
        append(&mut tar, INDEX, head.len() as u64, head.as_bytes()).map_err(write)?;
        for (name, bytes) in files {
            append(&mut tar, &format!("files/{name}"), bytes.len() as u64, bytes.as_slice()).map_err(write)?;
        }
        for (digest, size) in index.blobs.iter().chain(&index.loose) {
            let path = &places[digest];
            let file = File::open(path).map_err(|e| StoreError::io("read", path, e))?;
            let mut checked = Checked::new(file);
            append(&mut tar, &format!("blobs/{digest}"), *size, &mut checked).map_err(write)?;
            if checked.digest() != *digest {
                // The blob's own check moves it aside and says so.
                self.check_blob(digest, *size)?;
                let why = "it changed while it was read".to_owned();
                return Err(StoreError::Damaged { digest: *digest, why, aside: None });
            }
        }
        for (key, text) in actions {
            append(&mut tar, &format!("actions/{key}.json"), text.len() as u64, text.as_bytes()).map_err(write)?;
        }
        tar.into_inner().and_then(|mut w| w.flush()).map_err(write)?;
        failpoint("archive-written").map_err(write)?;
        temp.as_file().sync_all().map_err(write)?;
        let size = temp.as_file().metadata().map_err(write)?.len();
        temp.persist_noclobber(dest).map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Exists { path: dest.to_owned() },
            _ => write(e.error),
        })?;
        disk::sync_dir(parent)?;
        Ok(size)
    }

    /// The blobs of an object, with their sizes.
    fn gather(&self, object: &Object, blobs: &mut BTreeMap<Digest, u64>) -> Result<(), StoreError> {
        if !self.present(object) {
            let path = self.blob_path(&object.digest);
            return Err(StoreError::Missing { digest: object.digest, path });
        }
        match object.kind {
            ObjectKind::Blob => {
                blobs.insert(object.digest, object.size);
            }
            ObjectKind::Tree => {
                blobs.insert(object.digest, self.read(&object.digest)?.len() as u64);
                blobs.extend(self.tree(&object.digest)?.into_iter().map(|e| (e.digest, e.size)));
            }
        }
        Ok(())
    }
}

impl Index {
    pub(crate) fn size(&self, blob: &Digest) -> Option<u64> {
        self.blobs.get(blob).or_else(|| self.loose.get(blob)).copied()
    }

    /// The names of all members but itself.
    pub(crate) fn members(&self) -> impl Iterator<Item = String> {
        let files = self.files.keys().map(|n| format!("files/{n}"));
        let blobs = self.blobs.keys().chain(self.loose.keys()).map(|d| format!("blobs/{d}"));
        files.chain(blobs).chain(self.actions.keys().map(|k| format!("actions/{k}.json")))
    }
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, size: u64, from: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    tar.append_data(&mut header, name, from)
}

/// Hashes what is read through it.
pub(crate) struct Checked<R> {
    from: R,
    hasher: blake3::Hasher,
}

impl<R> Checked<R> {
    pub(crate) fn new(from: R) -> Checked<R> {
        Checked { from, hasher: blake3::Hasher::new() }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::from_bytes(*self.hasher.finalize().as_bytes())
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}
