//! Taking an archive's results in.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::archive::State;
use crate::archive::read::blob_name;
use crate::files::put::copy;
use crate::files::{disk, permission};
use crate::{Archive, Digest, Object, ObjectKind, Published, SaveError, Store, StoreError};

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
    /// Takes in what an archive holds and is not here yet: blobs first, then checkpoints, records last. All of it was
    /// looked at when the archive was opened, so that only the disk, or a file that changes meanwhile, can stop this.
    /// After a kill at any moment there are at most blobs that nothing names, and doing it again completes it.
    pub fn take_in(&self, archive: &Archive) -> Result<TakenIn, StoreError> {
        let mut taken = TakenIn::default();
        let index = archive.index();
        let named = &index.blobs;
        let stage = tempfile::Builder::new()
            .prefix("archive-")
            .tempdir_in(self.tmp())
            .map_err(|e| StoreError::io("write in", &self.tmp(), e))?;
        let states: Vec<&State> = index.checkpoints.iter().filter(|s| self.lacks(s)).collect();
        let staged: BTreeSet<Digest> = states.iter().flat_map(|s| s.files.iter().map(|f| f.digest)).collect();
        let mut shards = BTreeSet::new();
        archive.walk(&mut |name, size, from| {
            let Some(digest) = blob_name(name) else { return Ok(()) };
            if staged.contains(&digest) {
                let path = stage.path().join(digest.to_string());
                let file = File::create_new(&path).map_err(|e| StoreError::io("write", &path, e))?;
                archive.same(&digest, copy(from, &file, archive.path(), &path)?)?;
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
        archive.each_record(&mut |record| {
            match self.publish(&record)? {
                Published::New => taken.new.push(record.key),
                Published::Same => taken.same.push(record.key),
                Published::Attempt(n) => taken.attempts.push((record.key, n)),
            }
            Ok(())
        })?;
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
        let temp = disk::temp_file(&self.tmp(), permission::while_written(archive.readers()))?;
        let found = copy(from, temp.as_file(), archive.path(), temp.path())?;
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
