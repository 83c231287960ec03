//! Making room: what costs least to compute again goes first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::files::disk::{self, list};
use crate::files::failpoint::failpoint;
use crate::hosts::life::Standing;
use crate::hosts::others::Other;
use crate::lock::Busy;
use crate::usage::share;
use crate::{ActionRecord, Digest, ObjectKind, Output, Store, StoreError, StoreLock, tree};

/// What to sweep. The default keeps everything that any record names, and only says what it would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gc {
    /// Evict actions and checkpoints until blobs, checkpoints and work folders fit into this many bytes. Nothing:
    /// evict none, and sweep only what no record names.
    pub budget_bytes: Option<u64>,
    /// Whatever is younger is kept: blobs, actions, checkpoints, work folders, temp files.
    pub grace: Duration,
    /// Only report.
    pub dry_run: bool,
}

impl Default for Gc {
    fn default() -> Gc {
        Gc { budget_bytes: None, grace: Duration::from_secs(24 * 3600), dry_run: true }
    }
}

/// What a sweep keeps beside the pins: what the known runs name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// Keys of actions.
    pub keys: BTreeSet<Digest>,
    /// Lineages whose checkpoints to keep.
    pub lineages: BTreeSet<Digest>,
}

/// How long a sweep waits for those who use the store only for a moment, such as to open it.
const PATIENCE: Duration = Duration::from_millis(300);

/// What was swept, or would be.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GcReport {
    /// True: nothing was swept. (Damaged things are moved aside even so.)
    pub dry_run: bool,
    /// Bytes of blobs, checkpoints and work folders before.
    pub before_bytes: u64,
    /// The same after.
    pub after_bytes: u64,
    /// False: the roots and the young alone are over the budget.
    pub within_budget: bool,
    /// Actions that are kept.
    pub kept_actions: u64,
    /// What was evicted to get within the budget, the cheapest first.
    pub evicted: Vec<Evicted>,
    /// Blobs that no record named (any more), and their bytes.
    pub swept_blobs: u64,
    /// Bytes of those blobs.
    pub swept_bytes: u64,
    /// Stale work folders and temp files that were removed.
    pub swept_leftovers: u64,
}

/// Something that had to make room.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evicted {
    /// What it is.
    pub kind: EvictedKind,
    /// The action's key, or the lineage of the checkpoints.
    pub digest: Digest,
    /// What it would cost to compute again.
    pub seconds: f64,
    /// Its share of bytes: those of blobs that several actions name are divided among them.
    pub bytes: u64,
}

/// A finished action, or the checkpoints of a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EvictedKind {
    /// An action's record; its blobs follow if no other record names them.
    Action,
    /// All checkpoints of a lineage.
    Checkpoints,
}

/// The store as the sweep sees it.
struct Census {
    records: BTreeMap<Digest, ActionRecord>,
    /// Blobs that each action reaches, its attempts included.
    reach: BTreeMap<Digest, BTreeSet<Digest>>,
    /// How many actions reach each blob.
    owners: BTreeMap<Digest, u64>,
    sizes: BTreeMap<Digest, u64>,
}

impl Store {
    /// Sweeps the store. Roots are the pins, and what `roots` finds.
    ///
    /// Takes the store's exclusive lock itself, so the caller must hold none; fails with [`StoreError::InUse`] if
    /// anyone does. A dry run takes a shared lock. `roots` is called once the lock is held: whoever used the store before
    /// has written down by then what it needs, and nobody uses it until the sweep is over. Its error, and anything in
    /// the store that cannot be read, ends the sweep before anything is removed. A kill in the middle loses nothing that
    /// was to be kept: records go before the blobs they name.
    pub fn gc<E: From<StoreError>>(&self, plan: &Gc, roots: impl FnOnce() -> Result<Roots, E>) -> Result<GcReport, E> {
        let lock = if plan.dry_run { self.shared()? } else { self.alone()? };
        let mut roots = roots()?;
        roots.keys.extend(self.pins()?.into_values());
        Ok(self.sweep_but(plan, &roots, &lock)?)
    }

    /// The exclusive lock, from those who use the store longer than a moment. A process of another host of which nothing
    /// is seen to move is waited for until it counts as dead.
    fn alone(&self) -> Result<StoreLock, StoreError> {
        let mut asked = Instant::now();
        loop {
            let busy = match self.sole()? {
                Ok(lock) => return Ok(lock),
                Err(busy) => busy,
            };
            let silent = |others: &[Other]| others.iter().all(|o| o.standing == Standing::Silent);
            let pause = match &busy {
                Busy::By(others) if silent(others) => {
                    asked = Instant::now();
                    Duration::from_millis(50)
                }
                _ => Duration::from_millis(5),
            };
            if asked.elapsed() > PATIENCE {
                return Err(self.in_use(&busy));
            }
            std::thread::sleep(pause);
        }
    }

    fn sweep_but(&self, plan: &Gc, roots: &Roots, lock: &StoreLock) -> Result<GcReport, StoreError> {
        let now = self.now();
        let mut census = self.census()?;
        let mut report = GcReport { dry_run: plan.dry_run, ..GcReport::default() };

        let leftovers = self.leftovers(plan, now)?;
        let aged = |blob: &Digest| old(&self.blob_path(blob), plan.grace, now);
        let mut dead: BTreeSet<Digest> = census.sizes.keys().copied().collect();
        dead.retain(|blob| !census.owners.contains_key(blob) && aged(blob));
        let work = self.folder("work");
        let work_going = sum(leftovers.iter().filter(|p| p.starts_with(&work)).map(|p| share(p).bytes));
        let checkpoints = share(&self.folder("checkpoints")).bytes;
        report.before_bytes = sum([sum(census.sizes.values().copied()), checkpoints, share(&work).bytes]);
        let mut bytes = report.before_bytes.saturating_sub(sum([work_going, census.bytes(&dead)]));
        report.within_budget = true;
        if let Some(budget) = plan.budget_bytes {
            for candidate in self.candidates(plan, roots, &census, now)? {
                if bytes <= budget {
                    break;
                }
                match candidate.kind {
                    EvictedKind::Checkpoints => bytes = bytes.saturating_sub(candidate.bytes),
                    EvictedKind::Action => {
                        let mut orphans = census.forget(&candidate.digest);
                        orphans.retain(&aged);
                        bytes = bytes.saturating_sub(census.bytes(&orphans));
                        dead.extend(orphans);
                    }
                }
                report.evicted.push(candidate);
            }
            report.within_budget = bytes <= budget;
        }
        report.after_bytes = bytes;
        report.kept_actions = census.records.len() as u64;
        report.swept_blobs = dead.len() as u64;
        report.swept_bytes = census.bytes(&dead);
        report.swept_leftovers = leftovers.len() as u64;
        if !plan.dry_run {
            self.sweep(&report.evicted, &dead, &leftovers, lock)?;
        }
        Ok(report)
    }

    fn census(&self) -> Result<Census, StoreError> {
        let mut census =
            Census { records: BTreeMap::new(), reach: BTreeMap::new(), owners: BTreeMap::new(), sizes: self.blobs()? };
        for key in self.keys()? {
            let Some(record) = self.sure_record(&self.action_path(&key, 1), &key)? else {
                continue;
            };
            let mut blobs = self.reach(&record)?;
            for path in self.attempt_paths(&key)?.values() {
                if let Some(attempt) = self.sure_record(path, &key)? {
                    blobs.extend(self.reach(&attempt)?);
                }
            }
            for blob in &blobs {
                *census.owners.entry(*blob).or_default() += 1;
            }
            census.reach.insert(key, blobs);
            census.records.insert(key, record);
        }
        Ok(census)
    }

    /// The blobs that a record needs: of a tree, the listing and the files. A listing that is not here counts alone:
    /// its record is worth nothing. One that is here and cannot be read is an error.
    fn reach(&self, record: &ActionRecord) -> Result<BTreeSet<Digest>, StoreError> {
        let mut blobs = BTreeSet::new();
        for Output { object, .. } in record.outputs.values() {
            blobs.insert(object.digest);
            if object.kind != ObjectKind::Tree {
                continue;
            }
            let path = self.blob_path(&object.digest);
            let unsure = |why: String| StoreError::Unsure {
                path: path.clone(),
                why,
                help: "`opdflow verify --deep` moves what is damaged aside".to_owned(),
            };
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(unsure(e.to_string())),
            };
            if Digest::of(&bytes) != object.digest {
                return Err(unsure(format!("its {} bytes have another digest", bytes.len())));
            }
            blobs.extend(tree::decode(&bytes).map_err(unsure)?.iter().map(|e| e.digest));
        }
        Ok(blobs)
    }

    /// What may go, the cheapest to compute again per byte first.
    fn candidates(
        &self,
        plan: &Gc,
        roots: &Roots,
        census: &Census,
        now: SystemTime,
    ) -> Result<Vec<Evicted>, StoreError> {
        let mut found: Vec<Evicted> = Vec::new();
        for (key, record) in &census.records {
            let bytes = census.share_of(key);
            let young = !old(&self.action_path(key, 1), plan.grace, now);
            if !roots.keys.contains(key) && !young && bytes > 0 {
                found.push(Evicted { kind: EvictedKind::Action, digest: *key, seconds: record.seconds, bytes });
            }
        }
        for dir in list(&self.folder("checkpoints"))? {
            let Some(lineage) = dir.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok()) else {
                continue;
            };
            if roots.lineages.contains(&lineage) || list(&dir)?.iter().any(|p| !old(p, plan.grace, now)) {
                continue;
            }
            let seconds = self.checkpoints(&lineage).list().last().map_or(0.0, |c| c.elapsed_seconds);
            let bytes = share(&dir).bytes;
            found.push(Evicted { kind: EvictedKind::Checkpoints, digest: lineage, seconds, bytes });
        }
        let cost = |e: &Evicted| e.seconds / (e.bytes.max(1) as f64);
        found.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then(a.digest.cmp(&b.digest)));
        Ok(found)
    }

    /// Work folders, temp files and lease files that are older than the grace, and what is remembered of places that
    /// are gone.
    fn leftovers(&self, plan: &Gc, now: SystemTime) -> Result<Vec<PathBuf>, StoreError> {
        let mut found = list(&self.folder("tmp"))?;
        found.extend(list(&self.folder("work"))?);
        found.extend(list(&self.folder("leases"))?);
        let half = |path: &PathBuf| path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        found.extend(list(&self.folder("users"))?.into_iter().filter(half));
        found.retain(|path| old_below(path, plan.grace, now) && !self.leased(path));
        found.extend(self.stale_deliveries()?);
        Ok(found)
    }

    /// Whether someone holds the lease that a work folder or a lease file belongs to. Every user should hold the
    /// store's lock; this is for those who forget.
    fn leased(&self, path: &Path) -> bool {
        let key = path.file_stem().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
        key.is_some_and(|key| self.is_leased(&key))
    }

    /// Records first, then checkpoints, then blobs: at every moment a record that is here has its blobs here.
    fn sweep(
        &self,
        evicted: &[Evicted],
        dead: &BTreeSet<Digest>,
        leftovers: &[PathBuf],
        lock: &StoreLock,
    ) -> Result<(), StoreError> {
        let point = |name| failpoint(name).map_err(|e| StoreError::io("sweep", self.root(), e));
        let mut shards = BTreeSet::new();
        for gone in evicted {
            lock.still_alone()?;
            match gone.kind {
                EvictedKind::Checkpoints => {
                    // Moved first: what a kill leaves half removed must not be found under its name.
                    let dir = self.checkpoints(&gone.digest).dir().to_owned();
                    let aside = self.spare_name(&gone.digest);
                    match disk::rename(&dir, &aside, disk::Taken::Refuse) {
                        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                            return Err(StoreError::io("remove", &dir, e));
                        }
                        _ => {}
                    }
                    disk::sync_dir(&self.folder("checkpoints"))?;
                    point("gc-checkpoints-moved")?;
                    remove(&aside)?;
                }
                EvictedKind::Action => {
                    // The pinned record last: without it nobody would ever find the attempts.
                    for attempt in self.attempt_paths(&gone.digest)?.into_values() {
                        remove(&attempt)?;
                    }
                    let path = self.action_path(&gone.digest, 1);
                    remove(&path)?;
                    shards.extend(path.parent().map(Path::to_owned));
                }
            }
            point("gc-evicted")?;
        }
        for shard in &shards {
            disk::sync_dir(shard)?;
        }
        point("gc-records-gone")?;
        for blob in dead {
            lock.still_alone()?;
            remove(&self.blob_path(blob))?;
            point("gc-blob-gone")?;
        }
        leftovers.iter().try_for_each(|path| lock.still_alone().and_then(|()| remove(path)))
    }

    /// Now, by the clock that gives the store's files their times: another host may have made them, and a server may keep
    /// that clock.
    fn now(&self) -> SystemTime {
        let probe = disk::temp_file(&self.tmp(), 0o600).ok();
        let touched = probe.and_then(|temp| {
            disk::touch(temp.as_file()).ok()?;
            temp.as_file().metadata().ok()?.modified().ok()
        });
        touched.unwrap_or_else(SystemTime::now)
    }

    /// A free name below `tmp/`.
    fn spare_name(&self, digest: &Digest) -> PathBuf {
        let name = |n: u32| self.tmp().join(format!("gone-{digest}-{n}"));
        (0..).map(name).find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| name(0))
    }
}

impl Census {
    /// Bytes of these blobs.
    fn bytes(&self, blobs: &BTreeSet<Digest>) -> u64 {
        sum(blobs.iter().filter_map(|blob| self.sizes.get(blob).copied()))
    }

    /// The action's part of the bytes it reaches.
    fn share_of(&self, key: &Digest) -> u64 {
        let part = |blob| {
            let owners = self.owners.get(blob).copied().unwrap_or(1).max(1);
            self.sizes.get(blob).copied().unwrap_or(0) / owners
        };
        self.reach.get(key).map_or(0, |blobs| sum(blobs.iter().map(part)))
    }

    /// Takes the action out: the blobs that nobody reaches any more.
    fn forget(&mut self, key: &Digest) -> BTreeSet<Digest> {
        self.records.remove(key);
        let mut orphans = self.reach.remove(key).unwrap_or_default();
        orphans.retain(|blob| match self.owners.get_mut(blob) {
            Some(owners) => {
                *owners = owners.saturating_sub(1);
                *owners == 0
            }
            None => true,
        });
        orphans
    }
}

/// A sum that a nonsense size cannot overflow.
fn sum(sizes: impl IntoIterator<Item = u64>) -> u64 {
    sizes.into_iter().fold(0, u64::saturating_add)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Unknown ages and moments in the future count as young.
fn old(path: &Path, grace: Duration, now: SystemTime) -> bool {
    fs::symlink_metadata(path)
        .and_then(|meta| meta.modified())
        .is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age >= grace))
}

/// As [`old`], of a folder with everything in it.
fn old_below(path: &Path, grace: Duration, now: SystemTime) -> bool {
    let inside = if path.is_dir() { list(path) } else { Ok(Vec::new()) };
    old(path, grace, now) && inside.is_ok_and(|paths| paths.iter().all(|p| old_below(p, grace, now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_future_stops_the_sweep_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let out = store.put_bytes(b"needed by the future").unwrap();
        let key = Digest::of(b"key");
        let path = store.action_path(&key, 1);
        disk::make_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, crate::files::sealed::seal(&serde_json::json!({"format": 2})).unwrap()).unwrap();
        let plan = Gc { grace: Duration::ZERO, dry_run: false, ..Gc::default() };
        let swept = store.gc(&plan, || Ok::<_, StoreError>(Roots::default()));
        assert!(matches!(swept, Err(StoreError::Unsure { .. })));
        assert!(path.exists() && store.present(&out));
        assert_eq!(store.action(&key).unwrap(), None);
    }
}
