//! Looking the store over, and healing what can be healed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::files::disk::list;
use crate::{ActionRecord, Digest, Store, StoreError};

/// What a look over the store found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Records that were looked at, damaged ones not counted.
    pub actions: u64,
    /// Blobs that were looked at.
    pub blobs: u64,
    /// Bytes that were read and hashed.
    pub bytes: u64,
    /// Checkpoints that were looked at.
    pub checkpoints: u64,
    /// Everything that was wrong. Empty: the store is whole.
    pub damage: Vec<Damage>,
}

/// One thing that was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Where it was.
    pub path: PathBuf,
    /// What was wrong.
    pub what: String,
    /// Where it lies now.
    pub aside: Option<PathBuf>,
}

impl Store {
    /// Looks at every record, blob and checkpoint. Not `deep`: at names and sizes. `deep`: at every byte.
    ///
    /// Heals: damaged blobs and checkpoints are moved aside, and so are records whose outputs are missing or damaged,
    /// so that a key which would have hit something broken is computed again. Nothing is deleted.
    pub fn verify(&self, deep: bool) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        let before = self.warnings();
        let records: Vec<ActionRecord> = self.actions().collect();
        report.actions = records.len() as u64;
        self.verify_blobs(deep, &mut report)?;
        for record in &records {
            let mut broken = record.outputs.iter().filter(|(_, output)| !self.present(&output.object));
            if let Some((port, output)) = broken.next() {
                let path = self.action_path(&record.key, 1);
                let what = format!("its output `{port}` ({}) is missing or damaged", output.object.digest.short());
                let aside = self.set_aside(&path);
                self.warn(&path, what, aside);
            }
        }
        for dir in list(&self.folder("checkpoints"))? {
            let Some(lineage) = dir.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok()) else {
                continue;
            };
            report.checkpoints += self.checkpoints(&lineage).verify(deep)?;
        }
        let found = self.warnings();
        report.damage = found
            .iter()
            .map(|w| Damage { path: w.path.clone(), what: w.what.clone(), aside: w.aside.clone() })
            .collect();
        // They stay warnings for whoever listens to those.
        for w in before.into_iter().chain(found) {
            self.warn(&w.path, w.what, w.aside);
        }
        Ok(report)
    }

    fn verify_blobs(&self, deep: bool, report: &mut VerifyReport) -> Result<(), StoreError> {
        for (digest, size) in self.blobs()? {
            report.blobs += 1;
            if !deep {
                continue;
            }
            report.bytes += size;
            match self.check_blob(&digest, size) {
                Err(e) if !e.is_lost() => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Every blob by name, with the size of its file.
    pub(crate) fn blobs(&self) -> Result<BTreeMap<Digest, u64>, StoreError> {
        let mut blobs = BTreeMap::new();
        for shard in list(&self.folder("blobs"))? {
            let prefix = shard.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for path in list(&shard)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let Ok(digest) = format!("{prefix}{name}").parse::<Digest>() else {
                    continue;
                };
                if let Ok(meta) = path.symlink_metadata() {
                    blobs.insert(digest, meta.len());
                }
            }
        }
        Ok(blobs)
    }
}
