//! Publishing: the first record of a key stays, a differing one is kept beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::files::failpoint::failpoint;
use crate::files::{disk, sealed};
use crate::{ActionRecord, Digest, RECORD_FORMAT, Store, StoreError};

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is the key's first, and pinned.
    New,
    /// The key has a record with the same outputs; nothing was written.
    Same,
    /// The key has a record with other outputs, which stays pinned; this one is kept as attempt `n` (2 or more).
    Attempt(u32),
}

impl Store {
    /// Writes a record: the last step of an action, whole or not at all. All outputs must be here.
    ///
    /// The first record of a key stays pinned, so that whatever was computed from it stays explained. Outputs are
    /// compared where they are semantic. If the pinned record's own outputs are gone or cut short, it is moved aside,
    /// with a warning, and the new one takes its place.
    pub fn publish(&self, record: &ActionRecord) -> Result<Published, StoreError> {
        let invalid = |why: String| StoreError::Invalid { what: format!("the record of {}", record.key.short()), why };
        if record.format != RECORD_FORMAT {
            return Err(invalid(format!("its format is {}, not {RECORD_FORMAT}", record.format)));
        }
        if !record.seconds.is_finite() || record.seconds < 0.0 {
            return Err(invalid(format!("{} seconds is not a cost", record.seconds)));
        }
        if let Some((port, output)) = record.outputs.iter().find(|(_, output)| !self.present(&output.object)) {
            return Err(invalid(format!("its output `{port}` ({}) is not in the store", output.object.digest.short())));
        }
        let text = sealed::seal(record).map_err(|e| invalid(e.to_string()))?;
        let mut attempt = 1;
        // Ends: each turn either returns or passes one more file that exists.
        loop {
            let path = self.action_path(&record.key, attempt);
            if attempt == 1 {
                self.retire(&record.key)?;
            }
            match self.read_record(&path, &record.key)? {
                Some(known) if known.same_outputs(record) && attempt == 1 => {
                    return Ok(Published::Same);
                }
                Some(known) if known.same_outputs(record) => {
                    return Ok(Published::Attempt(attempt));
                }
                Some(_) => attempt += 1,
                None => {
                    if let Some(shard) = path.parent() {
                        self.make_dir(shard)?;
                    }
                    failpoint("action-start").map_err(|e| StoreError::io("write", &path, e))?;
                    if disk::create(&self.tmp(), &path, text.as_bytes(), "action")? {
                        return Ok(if attempt == 1 { Published::New } else { Published::Attempt(attempt) });
                    }
                    // Another process was faster, or the record is of a newer format and cannot be compared.
                    if self.read_record(&path, &record.key)?.is_none() && path.exists() {
                        attempt += 1;
                    }
                }
            }
        }
    }

    /// The differing results of a key beside the pinned one, by attempt number.
    pub fn attempts(&self, key: &Digest) -> Result<Vec<(u32, ActionRecord)>, StoreError> {
        let mut found = Vec::new();
        for (n, path) in self.attempt_paths(key)? {
            found.extend(self.read_record(&path, key)?.map(|record| (n, record)));
        }
        Ok(found)
    }

    /// The attempts' files, readable or not. By listing: after a damaged one was moved aside there is a gap.
    pub(crate) fn attempt_paths(&self, key: &Digest) -> Result<BTreeMap<u32, PathBuf>, StoreError> {
        let Some(shard) = self.action_path(key, 1).parent().map(Path::to_owned) else {
            return Ok(BTreeMap::new());
        };
        let prefix = format!("{key}.attempt-");
        let number =
            |path: &Path| path.file_name()?.to_str()?.strip_prefix(&prefix)?.strip_suffix(".json")?.parse().ok();
        Ok(disk::list(&shard)?.into_iter().filter_map(|path| Some((number(&path)?, path))).collect())
    }

    /// Makes attempt `n` the pinned record of its key; the pinned one becomes attempt `n`. One step: at every moment
    /// one of the two is pinned.
    pub fn choose(&self, key: &Digest, n: u32) -> Result<(), StoreError> {
        let (pinned, chosen) = (self.action_path(key, 1), self.action_path(key, n));
        if n < 2 || self.read_record(&chosen, key)?.is_none() {
            return Err(StoreError::Invalid {
                what: format!("the choice of attempt {n} of {}", key.short()),
                why: "there is no such attempt".to_owned(),
            });
        }
        let taken = if pinned.exists() { disk::Taken::Swap } else { disk::Taken::Refuse };
        disk::rename(&chosen, &pinned, taken).map_err(|e| StoreError::io("write", &pinned, e))?;
        pinned.parent().map_or(Ok(()), disk::sync_dir)
    }

    /// Moves the pinned record aside if what it promises is not here any more. Otherwise the key would never hit
    /// again: the re-run would be filed as a mere attempt.
    fn retire(&self, key: &Digest) -> Result<(), StoreError> {
        let path = self.action_path(key, 1);
        if let Some(known) = self.read_record(&path, key)?
            && !known.outputs.values().all(|output| self.present(&output.object))
        {
            let aside = self.set_aside(&path);
            self.warn(&path, "its outputs are not in the store any more: a new record takes its place", aside);
        }
        Ok(())
    }
}
