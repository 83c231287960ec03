//! Results in one file, for another machine's store.
//!
//! ```text
//! opdflow-archive.json     what follows, with digests and sizes, sealed
//! files/<path>             what the maker put beside the results
//! blobs/<digest>           each blob that a record or a checkpoint names, once
//! actions/<key>.json       the records, sealed, last
//! ```
//! A plain tar file. Times, users and modes are left out, so that the same results give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::put::copy;
use crate::{
    ActionRecord, Digest, Object, ObjectKind, Published, RECORD_FORMAT, SaveError, Store, StoreError, TreeEntry, disk,
    sealed,
};

/// The newest format of archives that this program reads and writes.
pub const ARCHIVE_FORMAT: u32 = 1;

const INDEX: &str = "opdflow-archive.json";
/// An index longer than this is none: the memory for it is taken before it can be checked.
const INDEX_LIMIT: u64 = 256 << 20;
/// Likewise for one record.
const RECORD_LIMIT: u64 = 64 << 20;

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
struct State {
    lineage: Digest,
    step: u64,
    elapsed_seconds: f64,
    files: Vec<TreeEntry>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Index {
    format: u32,
    /// Digest of each record's file, by key.
    actions: BTreeMap<Digest, Digest>,
    /// Sizes of the blobs that records name.
    blobs: BTreeMap<Digest, u64>,
    /// Sizes of those that only checkpoints have.
    loose: BTreeMap<Digest, u64>,
    checkpoints: Vec<State>,
    files: BTreeMap<String, (Digest, u64)>,
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

/// What became of an archive's contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenIn {
    /// Records that are new here.
    pub new: Vec<Digest>,
    /// Records that were here, with the same outputs.
    pub same: Vec<Digest>,
    /// Records that were here with other outputs: those of the archive are kept as these attempts.
    pub attempts: Vec<(Digest, u32)>,
    /// Checkpoints that are new here.
    pub checkpoints: usize,
    /// Bytes of blobs that are new here.
    pub bytes: u64,
}

impl Store {
    /// Writes an archive. It appears whole or not at all, and never over something else. Every byte is verified on
    /// the way.
    pub fn pack(&self, dest: &Path, contents: &Contents<'_>) -> Result<Packed, StoreError> {
        let taken = || StoreError::Exists { path: dest.to_owned() };
        if dest.symlink_metadata().is_ok() {
            return Err(taken());
        }
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
            actions.insert(*key, text);
        }
        let (mut checkpoints, mut loose) = (Vec::new(), BTreeMap::new());
        let mut places: BTreeMap<Digest, PathBuf> = blobs.keys().map(|d| (*d, self.blob_path(d))).collect();
        for lineage in contents.lineages.iter().collect::<BTreeSet<_>>() {
            let Some(head) = self.checkpoints(lineage).head()? else { continue };
            for file in head.files.iter().filter(|f| !blobs.contains_key(&f.digest)) {
                loose.insert(file.digest, file.size);
                places.entry(file.digest).or_insert_with(|| head.path.join(&file.path));
            }
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
        let parent = dest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        disk::make_dir(parent)?;
        let temp = disk::temp_file(parent, 0o644)?;
        let write = |e| StoreError::io("write", dest, e);
        let head = sealed::seal(&index).map_err(|e| write(e.into()))?;
        let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, temp.as_file()));
        append(&mut tar, INDEX, head.len() as u64, head.as_bytes()).map_err(write)?;
        for (name, bytes) in contents.files {
            append(&mut tar, &format!("files/{name}"), bytes.len() as u64, bytes.as_slice()).map_err(write)?;
        }
        for (digest, size) in index.blobs.iter().chain(&index.loose) {
            let path = &places[digest];
            let file = File::open(path).map_err(|e| StoreError::io("read", path, e))?;
            let mut checked = Checked { from: file, hasher: blake3::Hasher::new() };
            append(&mut tar, &format!("blobs/{digest}"), *size, &mut checked).map_err(write)?;
            if checked.digest() != *digest {
                // The blob's own check moves it aside and says so.
                self.check_blob(digest, *size)?;
                let why = "it changed while it was read".to_owned();
                return Err(StoreError::Damaged { digest: *digest, why, aside: None });
            }
        }
        for (key, text) in &actions {
            append(&mut tar, &format!("actions/{key}.json"), text.len() as u64, text.as_bytes()).map_err(write)?;
        }
        tar.into_inner().and_then(|mut w| w.flush()).map_err(write)?;
        temp.as_file().sync_all().map_err(write)?;
        let size = temp.as_file().metadata().map_err(write)?.len();
        temp.persist_noclobber(dest).map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => taken(),
            _ => write(e.error),
        })?;
        disk::sync_dir(parent)?;
        let blobs = index.blobs.len() + index.loose.len();
        Ok(Packed { records: actions.len(), checkpoints: index.checkpoints.len(), blobs, size })
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

    /// Takes in what an archive holds and is not here yet: blobs first, then checkpoints, records last. After a kill
    /// at any moment there are at most blobs that nothing names, and doing it again completes it.
    pub fn take_in(&self, archive: &Archive) -> Result<TakenIn, StoreError> {
        let mut taken = TakenIn::default();
        let named = &archive.index.blobs;
        let stage = tempfile::Builder::new()
            .prefix("archive-")
            .tempdir_in(self.tmp())
            .map_err(|e| StoreError::io("write in", &self.tmp(), e))?;
        let states: Vec<&State> = archive.index.checkpoints.iter().filter(|s| self.lacks(s)).collect();
        let staged: BTreeSet<Digest> = states.iter().flat_map(|s| s.files.iter().map(|f| f.digest)).collect();
        let mut shards = BTreeSet::new();
        archive.walk(&mut |name, size, from| {
            let Some(digest) = blob_name(name) else { return Ok(()) };
            if staged.contains(&digest) {
                let path = stage.path().join(digest.to_string());
                let file = File::create_new(&path).map_err(|e| StoreError::io("write", &path, e))?;
                archive.same(&digest, copy(from, &file, &archive.path, &path)?)?;
                if named.contains_key(&digest) {
                    self.put_path(&path)?;
                }
            } else if named.contains_key(&digest) {
                let object = Object { digest, kind: ObjectKind::Blob, size };
                if let Some(shard) = self.adopt(&object, from, archive)? {
                    taken.bytes += size;
                    shards.insert(shard);
                }
            }
            Ok(())
        })?;
        shards.iter().try_for_each(|shard| disk::sync_dir(shard))?;
        for state in states {
            self.adopt_state(state, stage.path())?;
            taken.checkpoints += 1;
        }
        for record in &archive.records {
            match self.publish(record)? {
                Published::New => taken.new.push(record.key),
                Published::Same => taken.same.push(record.key),
                Published::Attempt(n) => taken.attempts.push((record.key, n)),
            }
        }
        Ok(taken)
    }

    /// Whether there is no checkpoint of the lineage that is as far.
    fn lacks(&self, state: &State) -> bool {
        self.checkpoints(&state.lineage).list().iter().all(|c| c.step < state.step)
    }

    /// Takes in the bytes of a blob, if they are not here. Returns the folder to sync.
    fn adopt(&self, object: &Object, from: &mut dyn Read, archive: &Archive) -> Result<Option<PathBuf>, StoreError> {
        if self.reuse(object).is_some() {
            return Ok(None);
        }
        let temp = disk::temp_file(&self.tmp(), 0o600)?;
        let found = copy(from, temp.as_file(), &archive.path, temp.path())?;
        archive.same(&object.digest, found)?;
        self.install(temp, &object.digest).map(Some)
    }

    fn adopt_state(&self, state: &State, stage: &Path) -> Result<(), StoreError> {
        let fill = |dir: &Path| {
            for file in &state.files {
                let (from, to) = (stage.join(file.digest.to_string()), dir.join(&file.path));
                let write = |e| StoreError::io("write", &to, e);
                fs::create_dir_all(to.parent().unwrap_or(dir)).map_err(write)?;
                fs::copy(&from, &to).map_err(write)?;
            }
            Ok(())
        };
        // What is there is kept: it may be further on, or of use to a shorter run.
        let saved = self.checkpoints(&state.lineage).save(state.step, state.elapsed_seconds, usize::MAX, fill);
        saved.map(|_| ()).map_err(|e| match e {
            SaveError::Write(e) | SaveError::Store(e) => e,
        })
    }
}

/// An archive of which every byte was read and found whole.
#[derive(Debug, Default)]
pub struct Archive {
    path: PathBuf,
    index: Index,
    records: Vec<ActionRecord>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    /// Reads an archive and verifies all of it. Nothing is written anywhere.
    pub fn open(path: &Path) -> Result<Archive, StoreError> {
        let mut index = None;
        let mut whole = Archive { path: path.to_owned(), ..Archive::default() };
        let mut open: BTreeSet<String> = BTreeSet::new();
        let damaged = |why: String| StoreError::Archive { path: path.to_owned(), why };
        walk(path, &mut |name, size, from| {
            let Some(index) = &index else {
                let text = read(from, size, INDEX_LIMIT, path)?;
                if name != INDEX {
                    return Err(damaged(format!("it begins with `{name}`")));
                }
                let found = parse_index(&text).map_err(&damaged)?;
                open = found.members().collect();
                index = Some(found);
                return Ok(());
            };
            if !open.remove(name) {
                return Err(damaged(format!("`{name}` is there twice, or is not in its index")));
            }
            whole.check(index, name, size, from)
        })?;
        let index = index.ok_or_else(|| damaged("it is empty".to_owned()))?;
        if let Some(name) = open.first() {
            return Err(damaged(format!("`{name}` is missing: it is cut short")));
        }
        whole.index = index;
        whole.complete().map_err(damaged)?;
        Ok(whole)
    }

    /// The records in it, in the order of their keys.
    pub fn records(&self) -> &[ActionRecord] {
        &self.records
    }

    /// The other files in it, by relative path.
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// Reads one member and holds it against the index.
    fn check(&mut self, index: &Index, name: &str, size: u64, from: &mut dyn Read) -> Result<(), StoreError> {
        let damaged = |why: String| StoreError::Archive { path: self.path.clone(), why };
        let other = || damaged(format!("`{name}` has other bytes than its index says"));
        if let Some(digest) = blob_name(name) {
            let mut checked = Checked { from, hasher: blake3::Hasher::new() };
            io::copy(&mut checked, &mut io::sink()).map_err(|e| StoreError::io("read", &self.path, e))?;
            return if checked.digest() == digest && index.size(&digest) == Some(size) { Ok(()) } else { Err(other()) };
        }
        if let Some(path) = name.strip_prefix("files/") {
            let bytes = read(from, size, INDEX_LIMIT, &self.path)?;
            if (Digest::of(&bytes), size) != index.files[path] {
                return Err(other());
            }
            self.files.insert(path.to_owned(), bytes);
            return Ok(());
        }
        let bytes = read(from, size, RECORD_LIMIT, &self.path)?;
        let key = name.strip_prefix("actions/").and_then(|n| n.strip_suffix(".json")).and_then(|n| n.parse().ok());
        if key.and_then(|key: Digest| index.actions.get(&key)) != Some(&Digest::of(&bytes)) {
            return Err(other());
        }
        let record: ActionRecord = sealed::unseal(&bytes)
            .and_then(|value| serde_json::from_value(value).map_err(|e| e.to_string()))
            .map_err(|why| damaged(format!("`{name}`: {why}")))?;
        if Some(record.key) != key || record.format != RECORD_FORMAT {
            return Err(damaged(format!("`{name}` is another record than its name says, or of a newer program")));
        }
        self.records.push(record);
        Ok(())
    }

    /// Whether every output of every record, and every file of a checkpoint, is among the blobs.
    fn complete(&self) -> Result<(), String> {
        let has = |digest: &Digest, size: u64| self.index.size(digest) == Some(size);
        for state in &self.index.checkpoints {
            if !state.elapsed_seconds.is_finite()
                || !state.files.iter().all(|f| has(&f.digest, f.size) && plain(&f.path))
            {
                return Err(format!("its checkpoint of step {} is not whole", state.step));
            }
        }
        for record in &self.records {
            for (port, output) in &record.outputs {
                let there = match output.object.kind {
                    ObjectKind::Blob => has(&output.object.digest, output.object.size),
                    ObjectKind::Tree => self.index.blobs.contains_key(&output.object.digest),
                };
                if !there {
                    return Err(format!("output `{port}` of {} is not in it", record.key.short()));
                }
            }
        }
        Ok(())
    }

    fn walk(&self, take: &mut Take<'_>) -> Result<(), StoreError> {
        walk(&self.path, take)
    }

    fn same(&self, wanted: &Digest, found: Digest) -> Result<(), StoreError> {
        if found == *wanted {
            return Ok(());
        }
        Err(StoreError::Archive {
            path: self.path.clone(),
            why: format!("{} changed while it was read", wanted.short()),
        })
    }
}

impl Index {
    fn size(&self, blob: &Digest) -> Option<u64> {
        self.blobs.get(blob).or_else(|| self.loose.get(blob)).copied()
    }

    /// The names of all members but itself.
    fn members(&self) -> impl Iterator<Item = String> {
        let files = self.files.keys().map(|n| format!("files/{n}"));
        let blobs = self.blobs.keys().chain(self.loose.keys()).map(|d| format!("blobs/{d}"));
        files.chain(blobs).chain(self.actions.keys().map(|k| format!("actions/{k}.json")))
    }
}

fn parse_index(bytes: &[u8]) -> Result<Index, String> {
    let value = sealed::unseal(bytes)?;
    if let Some(format) = value.get("format").and_then(|f| f.as_u64()).filter(|f| *f > ARCHIVE_FORMAT.into()) {
        return Err(format!("its format is {format}, this program knows up to {ARCHIVE_FORMAT}: update the program"));
    }
    let index: Index = serde_json::from_value(value).map_err(|e| e.to_string())?;
    match index.files.keys().find(|path| !plain(path)) {
        Some(path) => Err(format!("`{path}` is not a plain relative path")),
        None => Ok(index),
    }
}

fn plain(path: &str) -> bool {
    !path.split('/').any(|name| matches!(name, "" | "." | "..")) && !path.contains('\0')
}

fn blob_name(name: &str) -> Option<Digest> {
    name.strip_prefix("blobs/")?.parse().ok()
}

/// What is done with a member: its name, its size, its bytes.
type Take<'t> = dyn FnMut(&str, u64, &mut dyn Read) -> Result<(), StoreError> + 't;

/// Goes over the members of the file, in their order.
fn walk(path: &Path, take: &mut Take<'_>) -> Result<(), StoreError> {
    let damaged = |e: io::Error| StoreError::Archive { path: path.to_owned(), why: e.to_string() };
    let file = File::open(path).map_err(|e| StoreError::io("read", path, e))?;
    let mut tar = tar::Archive::new(BufReader::with_capacity(1 << 20, file));
    for member in tar.entries().map_err(damaged)? {
        let mut member = member.map_err(damaged)?;
        if !member.header().entry_type().is_file() {
            return Err(damaged(io::Error::other("it holds something that is no plain file")));
        }
        let name = member.path().map_err(damaged)?.to_str().map(ToOwned::to_owned);
        let name = name.ok_or_else(|| damaged(io::Error::other("a name is not UTF-8")))?;
        let size = member.size();
        take(&name, size, &mut member).map_err(|e| match e {
            // Of the archive itself: a member that is cut short.
            StoreError::Io { path: at, source, .. } if at == path => damaged(source),
            other => other,
        })?;
    }
    Ok(())
}

fn read(from: &mut dyn Read, size: u64, limit: u64, path: &Path) -> Result<Vec<u8>, StoreError> {
    if size > limit {
        return Err(StoreError::Archive {
            path: path.to_owned(),
            why: format!("a part of {size} bytes is none of ours"),
        });
    }
    let mut bytes = Vec::new();
    from.take(limit).read_to_end(&mut bytes).map_err(|e| StoreError::io("read", path, e))?;
    if bytes.len() as u64 != size {
        return Err(StoreError::Archive { path: path.to_owned(), why: "it is cut short".to_owned() });
    }
    Ok(bytes)
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, size: u64, from: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    tar.append_data(&mut header, name, from)
}

/// Hashes what is read through it.
struct Checked<R> {
    from: R,
    hasher: blake3::Hasher,
}

impl<R> Checked<R> {
    fn digest(&self) -> Digest {
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
