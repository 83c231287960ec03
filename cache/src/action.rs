//! Action records: what came out under which key.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::disk::list;
use crate::files::sealed;
use crate::{Digest, Object, Store, StoreError};

/// The newest record format that this program reads and writes.
pub const RECORD_FORMAT: u32 = 1;

/// One finished computation. Written last, after all its outputs are durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionRecord {
    /// [`RECORD_FORMAT`].
    pub format: u32,
    /// The digest of everything that determines the outputs.
    pub key: Digest,
    /// The same without the horizon: keys of one lineage are prefixes of each other's work.
    pub lineage: Digest,
    /// What `key` is the digest of, whole, so that two records can be compared field by field.
    pub manifest: serde_json::Value,
    /// By port.
    pub outputs: BTreeMap<String, Output>,
    /// What it cost: wall-clock seconds over all attempts that led to it. Finite and not negative.
    pub seconds: f64,
    /// When it was finished: RFC 3339, UTC.
    pub finished: String,
    /// Facts about the machine and the run. They mean nothing to the key.
    pub note: BTreeMap<String, String>,
}

/// What came out of one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The bytes.
    pub object: Object,
    /// The type of the port, as its stage declares it.
    pub port_type: String,
    /// False for logs, timings and the like: they may differ between equal runs.
    pub semantic: bool,
}

impl ActionRecord {
    /// Whether both have the same ports and, where it matters, the same bytes.
    pub fn same_outputs(&self, other: &ActionRecord) -> bool {
        self.outputs.keys().eq(other.outputs.keys())
            && self.outputs.values().zip(other.outputs.values()).all(|(a, b)| {
                a.port_type == b.port_type && a.semantic == b.semantic && (!a.semantic || a.object == b.object)
            })
    }

    /// Bytes of all outputs, those of shared blobs counted each time.
    pub fn size(&self) -> u64 {
        self.outputs.values().fold(0, |sum, output| sum.saturating_add(output.object.size))
    }
}

impl Store {
    /// The pinned record of a key: the first that was published. Nothing if there is none, or if it cannot be
    /// read; then it was moved aside and there is a warning. Whether its outputs are here is for
    /// [`Store::present`] to say.
    pub fn action(&self, key: &Digest) -> Result<Option<ActionRecord>, StoreError> {
        self.read_record(&self.action_path(key, 1), key)
    }

    /// All readable records that are pinned, in the order of their keys. Damaged ones are moved aside and skipped,
    /// with a warning.
    pub fn actions(&self) -> Actions {
        let keys = self.keys().unwrap_or_else(|e| {
            self.warn(&self.folder("actions"), e.to_string(), None);
            Vec::new()
        });
        Actions { store: self.clone(), keys: keys.into_iter() }
    }

    /// The keys that have a pinned record, sorted.
    pub(crate) fn keys(&self) -> Result<Vec<Digest>, StoreError> {
        let mut keys: Vec<Digest> = Vec::new();
        for shard in list(&self.folder("actions"))? {
            keys.extend(list(&shard)?.iter().filter_map(|path| pinned_key(path)));
        }
        keys.sort_unstable();
        Ok(keys)
    }

    pub(crate) fn read_record(&self, path: &Path, key: &Digest) -> Result<Option<ActionRecord>, StoreError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io("read", path, e)),
        };
        match read(&bytes, key) {
            Ok(record) => Ok(Some(record)),
            // A newer record is whole, only not for us: it stays where it is.
            Err(Unread::Newer(format)) => {
                self.warn(path, format!("record format {format} is newer than {RECORD_FORMAT}: not used"), None);
                Ok(None)
            }
            Err(Unread::Damaged(why)) => Ok(self.spoiled(path, why)),
        }
    }

    /// All pinned records, or the first that cannot be read. Unlike [`Store::actions`], it moves nothing aside: it is
    /// for a sweep, which must not take a damaged record for none.
    pub fn records(&self) -> Result<Vec<ActionRecord>, StoreError> {
        let mut records = Vec::new();
        for key in self.keys()? {
            records.extend(self.sure_record(&self.action_path(&key, 1), &key)?);
        }
        Ok(records)
    }

    /// A record, or nothing if there is no such file; an error if there is one that cannot be read.
    pub(crate) fn sure_record(&self, path: &Path, key: &Digest) -> Result<Option<ActionRecord>, StoreError> {
        let unsure = |why: String, help: &str| StoreError::Unsure { path: path.to_owned(), why, help: help.to_owned() };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(unsure(e.to_string(), "make it readable, or remove it")),
        };
        read(&bytes, key).map(Some).map_err(|unread| match unread {
            Unread::Newer(format) => unsure(
                format!("its format is {format}, this program knows up to {RECORD_FORMAT}"),
                "update the program",
            ),
            Unread::Damaged(why) => unsure(why, "`opdflow verify` moves what is damaged aside"),
        })
    }

    fn spoiled<T>(&self, path: &Path, why: String) -> Option<T> {
        let aside = self.set_aside(path);
        self.warn(path, format!("damaged record: {why}"), aside);
        None
    }
}

/// Why a record cannot be used.
enum Unread {
    Newer(u64),
    Damaged(String),
}

fn read(bytes: &[u8], key: &Digest) -> Result<ActionRecord, Unread> {
    let value = sealed::unseal(bytes).map_err(Unread::Damaged)?;
    if let Some(format) = value.get("format").and_then(|f| f.as_u64()).filter(|f| *f > RECORD_FORMAT.into()) {
        return Err(Unread::Newer(format));
    }
    match serde_json::from_value::<ActionRecord>(value) {
        Ok(record) if record.key == *key => Ok(record),
        Ok(_) => Err(Unread::Damaged("it is the record of another key".to_owned())),
        Err(e) => Err(Unread::Damaged(e.to_string())),
    }
}

/// See [`Store::actions`].
#[derive(Debug)]
pub struct Actions {
    store: Store,
    keys: std::vec::IntoIter<Digest>,
}

impl Iterator for Actions {
    type Item = ActionRecord;

    fn next(&mut self) -> Option<ActionRecord> {
        for key in self.keys.by_ref() {
            match self.store.action(&key) {
                Ok(Some(record)) => return Some(record),
                Ok(None) => {}
                Err(e) => self.store.warn(&self.store.action_path(&key, 1), e.to_string(), None),
            }
        }
        None
    }
}

fn pinned_key(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()
}
