//! Reading an archive: every byte, and whether all that it says goes together, before anything of it is used.
//!
//! An archive may come from anybody. So nothing of it is kept in memory but its index, which has a bound; a name has
//! one, a record has one, and everything else is read through.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::archive::{Checked, INDEX, INDEX_LIMIT, Index, RECORD_LIMIT};
use crate::checkpoint::is_time;
use crate::files::permission;
use crate::files::sealed;
use crate::tree;
use crate::{ARCHIVE_FORMAT, ActionRecord, Digest, Object, ObjectKind, RECORD_FORMAT, StoreError};

/// No name in an archive is longer, nor may a path be that is made of it.
const NAME_LIMIT: u64 = 1024;
/// No file system takes a longer name of one file or folder.
const PART_LIMIT: usize = 255;
/// A listing of a folder longer than this is none: it is read whole.
const LISTING_LIMIT: u64 = 64 << 20;

/// An archive of which every byte was read and found whole.
#[derive(Debug, Default)]
pub struct Archive {
    path: PathBuf,
    index: Index,
    readers: u32,
}

/// Whether a record is good, or what is wrong with it.
type Judge<'j> = dyn FnMut(&ActionRecord) -> Result<(), String> + 'j;

impl Archive {
    /// Reads an archive and verifies all of it. Nothing is written anywhere.
    pub fn open(path: &Path) -> Result<Archive, StoreError> {
        Archive::open_with(path, &mut |_| Ok(()))
    }

    /// As [`Archive::open`]; `judge` sees each record, too, and may refuse the archive for it.
    pub fn open_with(path: &Path, judge: &mut Judge<'_>) -> Result<Archive, StoreError> {
        let damaged = |why: String| StoreError::Archive { path: path.to_owned(), why };
        let meta = path.metadata().map_err(|e| StoreError::io("read", path, e))?;
        if !meta.is_file() {
            return Err(damaged("it is no plain file".to_owned()));
        }
        let mut whole = Archive { path: path.to_owned(), readers: permission::readers(&meta), index: Index::default() };
        let (mut begun, mut open, mut trees) = (false, BTreeSet::<String>::new(), BTreeMap::new());
        walk(path, &mut |name, size, from| {
            if !begun {
                if name != INDEX {
                    return Err(damaged(format!("it begins with `{name}`")));
                }
                whole.index = parse_index(&read(from, size, INDEX_LIMIT, path)?).map_err(&damaged)?;
                open = whole.index.members().collect();
                begun = true;
                return Ok(());
            }
            if !open.remove(name) {
                return Err(damaged(format!("`{name}` is there twice, or is not in its index")));
            }
            let Some(record) = whole.check(name, size, from)? else { return Ok(()) };
            whole.complete(&record, &mut trees).map_err(&damaged)?;
            judge(&record).map_err(|why| damaged(format!("`{name}`: {why}")))
        })?;
        if !begun {
            return Err(damaged("it is empty".to_owned()));
        }
        if let Some(name) = open.first() {
            return Err(damaged(format!("`{name}` is missing: it is cut short")));
        }
        whole.check_trees(trees)?;
        Ok(whole)
    }

    /// The keys of the records in it, in their order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Digest> {
        self.index.actions.keys()
    }

    /// The names of the other files in it: relative paths.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.index.files.keys().map(String::as_str)
    }

    /// Hands over the bytes of each of the other files, by name, in the order in which they lie in the archive.
    pub fn each_file(
        &self,
        take: &mut dyn FnMut(&str, &mut dyn Read) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.walk(&mut |name, _, from| {
            let Some(file) = name.strip_prefix("files/") else { return Ok(()) };
            let Some((digest, _)) = self.index.files.get(file) else { return Ok(()) };
            let mut checked = Checked::new(from);
            take(file, &mut checked)?;
            // Whether or not the other side wanted it.
            io::copy(&mut checked, &mut io::sink()).map_err(|e| StoreError::io("read", &self.path, e))?;
            self.same(digest, checked.digest())
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Who may read the archive, and so what comes out of it.
    pub(crate) fn readers(&self) -> u32 {
        self.readers
    }

    pub(crate) fn each_record(
        &self,
        take: &mut dyn FnMut(ActionRecord) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.walk(&mut |name, size, from| match name.starts_with("actions/") {
            true => self.check(name, size, from)?.map_or(Ok(()), &mut *take),
            false => Ok(()),
        })
    }

    pub(crate) fn walk(&self, take: &mut Take<'_>) -> Result<(), StoreError> {
        walk(&self.path, take)
    }

    pub(crate) fn same(&self, wanted: &Digest, found: Digest) -> Result<(), StoreError> {
        if found == *wanted {
            return Ok(());
        }
        Err(self.damaged(format!("{} changed while it was read", wanted.short())))
    }

    fn damaged(&self, why: String) -> StoreError {
        StoreError::Archive { path: self.path.clone(), why }
    }

    /// Reads one member and holds it against the index; the record if it is one.
    fn check(&self, name: &str, size: u64, from: &mut dyn Read) -> Result<Option<ActionRecord>, StoreError> {
        let other = || self.damaged(format!("`{name}` has other bytes than its index says"));
        let blob = blob_name(name);
        let wanted = match (&blob, name.strip_prefix("files/")) {
            (Some(digest), _) => self.index.size(digest).map(|size| (*digest, size)),
            (None, Some(file)) => self.index.files.get(file).copied(),
            (None, None) => return self.check_record(name, size, from).map(Some),
        };
        // The size first: a member that only claims to be big is not read.
        let Some((digest, _)) = wanted.filter(|(_, wanted)| *wanted == size) else { return Err(other()) };
        let mut checked = Checked::new(from);
        io::copy(&mut checked, &mut io::sink()).map_err(|e| StoreError::io("read", &self.path, e))?;
        if checked.digest() == digest { Ok(None) } else { Err(other()) }
    }

    fn check_record(&self, name: &str, size: u64, from: &mut dyn Read) -> Result<ActionRecord, StoreError> {
        let bytes = read(from, size, RECORD_LIMIT, &self.path)?;
        let key = name.strip_prefix("actions/").and_then(|n| n.strip_suffix(".json")).and_then(|n| n.parse().ok());
        if key.and_then(|key: Digest| self.index.actions.get(&key)) != Some(&Digest::of(&bytes)) {
            return Err(self.damaged(format!("`{name}` has other bytes than its index says")));
        }
        let record: ActionRecord = sealed::unseal_as(&bytes).map_err(|why| self.damaged(format!("`{name}`: {why}")))?;
        if Some(record.key) != key || record.format != RECORD_FORMAT {
            return Err(self.damaged(format!("`{name}` is another record than its name says, or of a newer program")));
        }
        if !is_time(record.seconds) {
            return Err(self.damaged(format!("`{name}`: {} seconds is not a cost", record.seconds)));
        }
        Ok(record)
    }

    /// Whether every output of a record is among the blobs. Of its folders only the listings: they are gathered.
    fn complete(&self, record: &ActionRecord, trees: &mut BTreeMap<Digest, u64>) -> Result<(), String> {
        let key = record.key.short();
        for (port, output) in &record.outputs {
            let Object { digest, kind, size } = output.object;
            let there = match kind {
                ObjectKind::Blob => self.index.blobs.get(&digest) == Some(&size),
                ObjectKind::Tree => {
                    if trees.insert(digest, size).is_some_and(|other| other != size) {
                        return Err(format!("output `{port}` of {key} has two sizes"));
                    }
                    self.index.blobs.contains_key(&digest)
                }
            };
            if !there {
                return Err(format!("output `{port}` of {key} is not in it"));
            }
        }
        Ok(())
    }

    /// Whether each listing is one, and every file that it lists is among the blobs. `trees`: their sizes.
    fn check_trees(&self, mut trees: BTreeMap<Digest, u64>) -> Result<(), StoreError> {
        if trees.is_empty() {
            return Ok(());
        }
        self.walk(&mut |name, size, from| {
            let Some((digest, total)) = blob_name(name).and_then(|d| trees.remove_entry(&d)) else { return Ok(()) };
            let bytes = read(from, size, LISTING_LIMIT, &self.path)?;
            self.same(&digest, Digest::of(&bytes))?;
            let wrong = |why: String| self.damaged(format!("the folder {}: {why}", digest.short()));
            let files = tree::decode(&bytes).map_err(wrong)?;
            for file in &files {
                short(&file.path).map_err(wrong)?;
                if self.index.blobs.get(&file.digest) != Some(&file.size) {
                    return Err(wrong(format!("its file `{}` is not in it", file.path)));
                }
            }
            if tree::total(&files) != Some(total) {
                return Err(wrong("its files have another size than its record says".to_owned()));
            }
            Ok(())
        })
    }
}

/// The index, if all that it says goes together.
fn parse_index(bytes: &[u8]) -> Result<Index, String> {
    #[derive(Deserialize)]
    struct Head {
        format: u64,
    }
    let format = sealed::unseal_as::<Head>(bytes)?.format;
    if format > ARCHIVE_FORMAT.into() {
        return Err(format!("its format is {format}, this program knows up to {ARCHIVE_FORMAT}: update the program"));
    }
    let index: Index = sealed::unseal_as(bytes)?;
    index.files.keys().try_for_each(|path| short(path))?;
    tree::apart(index.files.keys().map(String::as_str))?;
    let mut seen = BTreeSet::new();
    for state in &index.checkpoints {
        let wrong = |why: String| format!("its checkpoint of step {}: {why}", state.step);
        if !seen.insert((state.lineage, state.step)) {
            return Err(wrong("it is there twice".to_owned()));
        }
        if !is_time(state.elapsed_seconds) {
            return Err(wrong(format!("{} seconds is not a time", state.elapsed_seconds)));
        }
        if state.files.is_empty() {
            return Err(wrong("it holds no file".to_owned()));
        }
        tree::apart(state.files.iter().map(|f| f.path.as_str())).map_err(wrong)?;
        for file in &state.files {
            short(&file.path).map_err(wrong)?;
            if index.size(&file.digest) != Some(file.size) {
                return Err(wrong(format!("its file `{}` is not in it", file.path)));
            }
        }
    }
    Ok(index)
}

/// A path that a file system takes.
fn short(path: &str) -> Result<(), String> {
    if path.len() as u64 <= NAME_LIMIT && path.split('/').all(|part| part.len() <= PART_LIMIT) {
        return Ok(());
    }
    let begin: String = path.chars().take(40).collect();
    Err(format!("the path `{begin}...` is too long"))
}

pub(crate) fn blob_name(name: &str) -> Option<Digest> {
    name.strip_prefix("blobs/")?.parse().ok()
}

/// What is done with a member: its name, its size, its bytes.
pub(crate) type Take<'t> = dyn FnMut(&str, u64, &mut dyn Read) -> Result<(), StoreError> + 't;

/// Goes over the members of the file, in their order.
fn walk(path: &Path, take: &mut Take<'_>) -> Result<(), StoreError> {
    let damaged = |why: String| StoreError::Archive { path: path.to_owned(), why };
    let broken = |e: io::Error| damaged(e.to_string());
    let file = File::open(path).map_err(|e| StoreError::io("read", path, e))?;
    let length = file.metadata().map_err(|e| StoreError::io("read", path, e))?.len();
    let mut tar = tar::Archive::new(BufReader::with_capacity(1 << 16, file));
    // A name that does not fit into a header comes before it as a member of its own.
    let mut long: Option<Vec<u8>> = None;
    // Raw: what the library would do with long names and extended headers takes memory that has no bound.
    for member in tar.entries_with_seek().map_err(broken)?.raw(true) {
        let mut member = member.map_err(broken)?;
        let size = member.size();
        // What is not read is skipped, and a skip beyond the end is no error. A member fills whole blocks of 512 bytes.
        let end = member.raw_file_position().checked_add(size).and_then(|end| end.checked_next_multiple_of(512));
        if end.is_none_or(|end| end > length) {
            return Err(damaged("it is cut short".to_owned()));
        }
        let kind = member.header().entry_type();
        if kind.is_gnu_longname() && long.is_none() {
            let mut name = read(&mut member, size, NAME_LIMIT + 64, path)?;
            while name.last() == Some(&0) {
                name.pop();
            }
            long = Some(name);
            continue;
        }
        if !kind.is_file() {
            return Err(damaged("it holds something that is no plain file".to_owned()));
        }
        let name = long.take().unwrap_or_else(|| member.path_bytes().into_owned());
        let name = String::from_utf8(name).map_err(|_| damaged("a name is not UTF-8".to_owned()))?;
        take(&name, size, &mut member).map_err(|e| match e {
            // Of the archive itself: a member that is cut short.
            StoreError::Io { path: at, source, .. } if at == path => broken(source),
            other => other,
        })?;
    }
    Ok(())
}

fn read(from: &mut (impl Read + ?Sized), size: u64, limit: u64, path: &Path) -> Result<Vec<u8>, StoreError> {
    let damaged = |why: String| StoreError::Archive { path: path.to_owned(), why };
    if size > limit {
        return Err(damaged(format!("a part of {size} bytes is none of ours")));
    }
    let mut bytes = Vec::new();
    Read::take(&mut *from, limit).read_to_end(&mut bytes).map_err(|e| StoreError::io("read", path, e))?;
    if bytes.len() as u64 != size {
        return Err(damaged("it is cut short".to_owned()));
    }
    Ok(bytes)
}
