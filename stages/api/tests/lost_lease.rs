//! A stage whose lease another host takes over while it only stood still.
#![allow(missing_docs)]

use opdflow_api::{
    Description, Environment, Event, EventSink, Job, Outcome, Output, Stage, StageContext, StopFlag, Workers, run_job,
};
use opdflow_cache::{ActionRecord, Digest, Host, Lease, Locks, RECORD_FORMAT, Setting, Store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Params {
    /// Whether it saves a checkpoint, or goes straight to its end.
    saves: bool,
}

struct Still;

impl Stage for Still {
    type Params = Params;
    fn describe(&self) -> Description {
        Description {
            kind: "still",
            semantics: 1,
            about: "Stands still at its first attempt, until another host has its lease.",
            inputs: &[],
            outputs: const { &[Output::new("value", "value", "a word")] },
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }
}

fn job(store: &Path, saves: bool) -> Job {
    Job {
        name: "still".to_owned(),
        kind: "still".to_owned(),
        params: serde_json::to_value(Params { saves }).unwrap(),
        inputs: BTreeMap::new(),
        seed: 0,
        key: Digest::of(b"key"),
        lineage: Digest::of(b"lineage"),
        manifest: serde_json::Value::Null,
        threads: 1,
        device: "cpu".to_owned(),
        folder: store.to_owned(),
        store: store.to_owned(),
        environment: Environment::new(),
        checkpoint_seconds: 60.0,
        ranks: 1,
        deadline_seconds: 60.0,
        samples: None,
        force: false,
        program: String::new(),
        doubts: Vec::new(),
        note: BTreeMap::new(),
    }
}

/// Takes the lease over on another host, which sees no heartbeat in the little time for which it has patience.
fn take_over(root: &Path) -> (Store, Lease) {
    let (beat, patience) = (Duration::from_millis(10), Duration::from_millis(40));
    let setting = Setting { host: Host::made_of("b", &[]), locks: Locks::Heartbeat, beat, patience };
    let store = Store::open_as(root, setting).unwrap();
    let began = Instant::now();
    loop {
        if let Some(lease) = store.try_lease(&Digest::of(b"lineage")).unwrap() {
            return (store, lease);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "never taken over");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What the other host makes of the work.
fn publish(store: &Store) {
    let object = store.put_bytes(b"theirs").unwrap();
    let output = opdflow_cache::Output { object, port_type: "value".to_owned(), semantic: true };
    let record = ActionRecord {
        format: RECORD_FORMAT,
        key: Digest::of(b"key"),
        lineage: Digest::of(b"lineage"),
        manifest: serde_json::Value::Null,
        outputs: BTreeMap::from([("value".to_owned(), output)]),
        seconds: 1.0,
        finished: opdflow_cache::utc_now(),
        note: BTreeMap::new(),
    };
    store.publish(&record).unwrap();
}

/// Runs the job in the store; the other host `finishes` the work, or gives it back undone. How often the stage ran, and how
/// it ended.
fn run(root: &Path, saves: bool, finishes: bool) -> (usize, Outcome) {
    let runs = Arc::new(AtomicUsize::new(0));
    let other: Arc<Mutex<Option<(Store, Lease)>>> = Arc::default();
    let waited: Arc<Mutex<Option<(u32, String)>>> = Arc::default();
    let (ran, theirs, at) = (runs.clone(), other.clone(), root.to_owned());
    let work = move |params: Params, context: &mut StageContext| -> anyhow::Result<()> {
        context.resume(9)?;
        if ran.fetch_add(1, Ordering::SeqCst) == 0 {
            let (store, lease) = take_over(&at);
            *theirs.lock().unwrap() = Some((store, lease));
            if params.saves {
                context.checkpoint(1, |folder| Ok(std::fs::write(folder.join("state"), "mine")?))?;
                panic!("saved under a lease that is another host's");
            }
        }
        std::fs::write(context.output("value"), "mine")?;
        Ok(())
    };
    let heard = waited.clone();
    let events = EventSink::new(move |event| {
        // This one waits: the other host comes to an end.
        if let Event::Waiting { pid, host, .. } = event
            && let Some((store, lease)) = other.lock().unwrap().take()
        {
            *heard.lock().unwrap() = Some((*pid, host.clone()));
            if finishes {
                publish(&store);
            }
            drop(lease);
        }
    });
    let workers = Workers::new().with(Still, work);
    let outcome = run_job(&**workers.get("still").unwrap(), &job(root, saves), None, &events, &StopFlag::default());
    assert_eq!(*waited.lock().unwrap(), Some((std::process::id(), "b".to_owned())));
    (runs.load(Ordering::SeqCst), outcome)
}

fn value(store: &Store) -> Vec<u8> {
    let record = store.action(&Digest::of(b"key")).unwrap().unwrap();
    store.read(&record.outputs["value"].object.digest).unwrap()
}

#[test]
fn what_the_other_host_makes_of_it_is_taken() {
    for saves in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let (runs, outcome) = run(store.root(), saves, true);
        assert_eq!((runs, outcome), (1, Outcome::Published { found: true }), "saves: {saves}");
        assert_eq!(value(&store), b"theirs");
        assert!(store.attempts(&Digest::of(b"key")).unwrap().is_empty());
        assert!(store.checkpoints(&Digest::of(b"lineage")).list().is_empty());
    }
}

#[test]
fn what_the_other_host_gives_back_is_computed_here() {
    for saves in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let (runs, outcome) = run(store.root(), saves, false);
        assert_eq!((runs, outcome), (2, Outcome::Published { found: false }), "saves: {saves}");
        assert_eq!(value(&store), b"mine");
        assert!(!store.root().join("work").join(Digest::of(b"lineage").to_string()).exists());
    }
}
