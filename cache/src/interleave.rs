//! Runs, sweeps and deaths in any order: nothing that a run needs ever goes.
//!
//! A run is modelled as what it does to the store: it holds the shared lock, writes down each key before it looks it
//! up, and then hits or publishes. What it wrote down outlives it, however it ends. A sweep reads what all runs wrote
//! down, the way the program does: once it holds the store's lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use crate::files::failpoint::FUSE;
use crate::{ActionRecord, Digest, Gc, Output, RECORD_FORMAT, Roots, Store, StoreError, StoreLock};

#[derive(Debug, Clone)]
enum Step {
    /// A run begins, if that one is not under way.
    Begin(usize),
    /// It needs the result of a key: finds it, or makes it; and dies after so many steps of that, if a number is given.
    Work(usize, u8, Option<usize>),
    /// It saves a checkpoint of a lineage; likewise.
    Save(usize, u8, Option<usize>),
    /// It ends. What it wrote down stays.
    End(usize),
    /// What an ended run wrote down is deleted by the user: it needs nothing any more.
    Forget(usize),
    /// The store is swept. Once the sweep has the lock, these steps are tried, too.
    Sweep { budget: Option<u64>, young_stay: bool, dry_run: bool, dies: Option<usize>, meanwhile: Vec<Step> },
    /// The store is swept, but what one of the runs wrote down cannot be read.
    SweepBlind,
}

/// What a run wrote down, and what it has seen in the store since.
#[derive(Default)]
struct Log {
    keys: BTreeSet<Digest>,
    lineages: BTreeSet<Digest>,
    seen: BTreeMap<Digest, ActionRecord>,
    saved: BTreeMap<Digest, u64>,
}

struct World {
    store: Store,
    /// The locks of runs under way, and the places of their logs.
    runs: BTreeMap<usize, (StoreLock, usize)>,
    logs: Vec<Option<Log>>,
    clock: u64,
}

const DAY: Duration = Duration::from_secs(86_400);

fn record(n: u8, store: &Store) -> Result<ActionRecord, StoreError> {
    // Results share bytes.
    let bytes = [vec![n; 400], vec![n % 2; 700]];
    let mut outputs = BTreeMap::new();
    for (port, bytes) in ["own", "shared"].into_iter().zip(&bytes) {
        let output = Output { object: store.put_bytes(bytes)?, port_type: "file".to_owned(), semantic: true };
        outputs.insert(port.to_owned(), output);
    }
    Ok(ActionRecord {
        format: RECORD_FORMAT,
        key: Digest::of(&[n]),
        lineage: Digest::of(&[n, n]),
        manifest: serde_json::json!({"n": n}),
        outputs,
        seconds: f64::from(n),
        finished: crate::utc_now(),
        note: BTreeMap::new(),
    })
}

fn found_or_made(n: u8, store: &Store) -> Result<ActionRecord, StoreError> {
    match store.action(&Digest::of(&[n]))? {
        Some(hit) if hit.outputs.values().all(|o| store.present(&o.object)) => Ok(hit),
        _ => {
            let made = record(n, store)?;
            store.publish(&made)?;
            Ok(made)
        }
    }
}

impl World {
    fn roots(&self) -> Roots {
        let logs = || self.logs.iter().flatten();
        Roots {
            keys: logs().flat_map(|l| l.keys.iter().copied()).collect(),
            lineages: logs().flat_map(|l| l.lineages.iter().copied()).collect(),
        }
    }

    /// One step. `swept`: whether a sweep has the store for itself.
    fn take(&mut self, step: &Step, swept: bool) {
        match step {
            Step::Begin(run) if !self.runs.contains_key(run) => {
                let lock = self.store.try_shared().unwrap();
                assert!(!swept || lock.is_none(), "a run begins in the middle of a sweep");
                if let Some(lock) = lock {
                    self.logs.push(Some(Log::default()));
                    self.runs.insert(*run, (lock, self.logs.len() - 1));
                }
            }
            Step::Work(run, n, dies) => {
                let Some(log) = self.log_of(*run) else { return };
                log.keys.insert(Digest::of(&[*n]));
                FUSE.set(*dies);
                let done = found_or_made(*n, &self.store);
                FUSE.set(None);
                match (done, self.log_of(*run)) {
                    (Ok(record), Some(log)) => drop(log.seen.insert(record.key, record)),
                    _ => drop(self.runs.remove(run)),
                }
            }
            Step::Save(run, n, dies) => {
                self.clock += 1;
                let (at, lineage) = (self.clock, Digest::of(&[*n, *n]));
                let Some(log) = self.log_of(*run) else { return };
                log.lineages.insert(lineage);
                FUSE.set(*dies);
                let fill = |dir: &Path| fs::write(dir.join("state"), at.to_string());
                let done = self.store.checkpoints(&lineage).save(at, 1.0, 2, fill);
                FUSE.set(None);
                match (done, self.log_of(*run)) {
                    (Ok(_), Some(log)) => drop(log.saved.insert(lineage, at)),
                    _ => drop(self.runs.remove(run)),
                }
            }
            Step::End(run) => drop(self.runs.remove(run)),
            Step::Forget(n) => {
                let busy: Vec<usize> = self.runs.values().map(|(_, log)| *log).collect();
                if let Some(log) = self.logs.get_mut(*n).filter(|_| !busy.contains(n)) {
                    *log = None;
                }
            }
            Step::Sweep { budget, young_stay, dry_run, dies, meanwhile } if !swept => {
                let grace = if *young_stay { DAY } else { Duration::ZERO };
                let plan = Gc { budget_bytes: *budget, grace, dry_run: *dry_run };
                let (store, busy) = (self.store.clone(), !self.runs.is_empty());
                let swept = store.gc(&plan, || {
                    meanwhile.iter().for_each(|step| self.take(step, !dry_run));
                    FUSE.set(*dies);
                    Ok(self.roots())
                });
                FUSE.set(None);
                match swept {
                    Err(StoreError::InUse { .. }) => assert!(busy && !dry_run),
                    Err(e) => assert!(dies.is_some(), "{e}"),
                    Ok(_) => assert!(!busy || *dry_run, "swept under a run"),
                }
            }
            Step::SweepBlind if !swept => {
                let before = files(self.store.root());
                let plan = Gc { budget_bytes: Some(0), grace: Duration::ZERO, dry_run: false };
                let path = self.store.root().join("runs");
                let unsure = || StoreError::Unsure { path, why: "no".to_owned(), help: String::new() };
                assert!(self.store.gc(&plan, || Err(unsure())).is_err());
                assert_eq!(files(self.store.root()), before);
            }
            _ => {}
        }
    }

    fn log_of(&mut self, run: usize) -> Option<&mut Log> {
        self.logs.get_mut(self.runs.get(&run)?.1)?.as_mut()
    }

    fn look_over(&self) {
        for log in self.logs.iter().flatten() {
            for (key, seen) in &log.seen {
                assert_eq!(self.store.action(key).unwrap().as_ref(), Some(seen));
                seen.outputs.values().for_each(|o| self.store.check(&o.object).unwrap());
            }
            for (lineage, step) in &log.saved {
                assert!(self.store.checkpoints(lineage).head().unwrap().is_some_and(|c| c.step >= *step));
            }
        }
        assert_eq!(self.store.verify(true).unwrap().damage, []);
        assert_eq!(self.store.warnings(), []);
    }
}

fn files(dir: &Path) -> BTreeSet<std::path::PathBuf> {
    let mut found = BTreeSet::new();
    for path in crate::files::disk::list(dir).unwrap() {
        found.extend(files(&path));
        found.insert(path);
    }
    found
}

fn run_step() -> impl Strategy<Value = Step> {
    let (run, key) = (|| 0..3_usize, || 0..5_u8);
    let dies = || prop_oneof![3 => Just(None), 1 => (0..12_usize).prop_map(Some)];
    prop_oneof![
        3 => run().prop_map(Step::Begin),
        5 => (run(), key(), dies()).prop_map(|(r, k, d)| Step::Work(r, k, d)),
        2 => (run(), key(), dies()).prop_map(|(r, k, d)| Step::Save(r, k, d)),
        3 => run().prop_map(Step::End),
        1 => (0..6_usize).prop_map(Step::Forget),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let dies = prop_oneof![2 => Just(None), 1 => (0..10_usize).prop_map(Some)];
    let budget = prop_oneof![1 => Just(None), 2 => Just(Some(0)), 1 => (0..4000_u64).prop_map(Some)];
    let meanwhile = prop::collection::vec(run_step(), 0..4);
    let sweep = (budget, any::<bool>(), prop::bool::weighted(0.2), dies, meanwhile);
    prop_oneof![
        6 => run_step(),
        2 => sweep.prop_map(|(budget, young_stay, dry_run, dies, meanwhile)| {
            Step::Sweep { budget, young_stay, dry_run, dies, meanwhile }
        }),
        1 => Just(Step::SweepBlind),
    ]
}

proptest! {
    // Each case syncs files.
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_run_needs_stays(steps in prop::collection::vec(step(), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let mut world = World { store, runs: BTreeMap::new(), logs: Vec::new(), clock: 0 };
        for step in &steps {
            world.take(step, false);
            world.look_over();
        }
        // And what nobody needs goes, once nobody is left.
        world.runs.clear();
        world.logs.clear();
        let plan = Gc { budget_bytes: Some(0), grace: Duration::ZERO, dry_run: false };
        world.store.gc(&plan, || Ok::<_, StoreError>(world.roots())).unwrap();
        prop_assert_eq!(world.store.usage().bytes(), 0);
    }
}

/// The same with real threads, for the moments between steps. How often they meet depends on the machine.
#[test]
fn runs_and_sweeps_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let logs = Mutex::new(Roots::default());
    let (swept, running) = (AtomicUsize::new(0), AtomicUsize::new(3));
    std::thread::scope(|threads| {
        for run in 0..3_u8 {
            let (root, logs, swept, running) = (&root, &logs, &swept, &running);
            threads.spawn(move || {
                for n in (0..200).take_while(|_| swept.load(Ordering::SeqCst) < 10) {
                    let store = Store::open(root).unwrap();
                    let lock = store.shared().unwrap();
                    let n = (n % 5) * 3 + run;
                    logs.lock().unwrap().keys.insert(Digest::of(&[n]));
                    found_or_made(n, &store).unwrap();
                    drop(lock);
                    // A gap for the sweep.
                    std::thread::sleep(Duration::from_millis(2));
                    let _lock = store.shared().unwrap();
                    let found = store.action(&Digest::of(&[n])).unwrap().expect("what a run needs");
                    found.outputs.values().for_each(|o| store.check(&o.object).unwrap());
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        threads.spawn(|| {
            while swept.load(Ordering::SeqCst) == 0 || running.load(Ordering::SeqCst) > 0 {
                let store = Store::open(&root).unwrap();
                let plan = Gc { budget_bytes: Some(0), grace: Duration::ZERO, dry_run: false };
                match store.gc(&plan, || Ok::<_, StoreError>(logs.lock().unwrap().clone())) {
                    Ok(_) => drop(swept.fetch_add(1, Ordering::SeqCst)),
                    Err(StoreError::InUse { .. }) => {}
                    Err(e) => panic!("{e}"),
                }
            }
        });
    });
    assert_eq!(Store::open(&root).unwrap().verify(true).unwrap().damage, []);
}
