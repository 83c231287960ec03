//! The dispatcher against random recipes and random misfortune, with stages that run in threads of this process.

use super::{Ended, Ending, Order, Slots, run};
use crate::exec::{End, Executor, Message, Process, ProcessId};
use crate::plan::{NumericFacts, Plan};
use crate::recipe::{self, Overrides};
use crate::runlog::RunEvent;
use anyhow::Result;
use opdflow_api::cache::Store;
use opdflow_api::{EventSink, Job, Registry, StopFlag, Workers, run_job, with_fake_workers, with_fakes};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

/// What happens to one start of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fortune {
    Good,
    Lost,
    Crash,
    /// It ends well, but says nothing of it.
    Mute,
}

struct Threads {
    workers: Workers,
    fortunes: Mutex<Vec<Fortune>>,
    used: Arc<AtomicUsize>,
    most: AtomicUsize,
    starts: Mutex<BTreeMap<String, u32>>,
}

struct Nothing;

impl Process for Nothing {
    fn id(&self) -> ProcessId {
        ProcessId { host: None, pid: 1 }
    }
    fn stop(&self) {}
    fn kill(&self) {}
}

impl Executor for Threads {
    fn start(&self, stage: usize, job: &Job, _gpu: Option<&str>, inbox: &Sender<Message>) -> Result<Box<dyn Process>> {
        let now = self.used.fetch_add(job.threads, Ordering::SeqCst) + job.threads;
        self.most.fetch_max(now, Ordering::SeqCst);
        *self.starts.lock().unwrap().entry(job.name.clone()).or_default() += 1;
        let fortune = self.fortunes.lock().unwrap().pop().unwrap_or(Fortune::Good);
        let (inbox, used, job) = (inbox.clone(), self.used.clone(), job.clone());
        let worker = self.workers.get(&job.kind).unwrap().clone();
        std::thread::spawn(move || {
            let tell = inbox.clone();
            let sink = match fortune {
                Fortune::Good => EventSink::new(move |event| drop(tell.send(Message::Event(stage, event.clone())))),
                _ => EventSink::silent(),
            };
            let end = match fortune {
                Fortune::Good | Fortune::Mute => {
                    End::Code(run_job(worker.as_ref(), &job, None, &sink, &StopFlag::default()).exit_code())
                }
                Fortune::Lost => End::Signal(libc::SIGKILL),
                Fortune::Crash => End::Signal(libc::SIGSEGV),
            };
            used.fetch_sub(job.threads, Ordering::SeqCst);
            inbox.send(Message::Ended(stage, end)).unwrap();
        });
        Ok(Box::new(Nothing))
    }
}

/// A recipe in which stage i reads the earlier stages whose bit is set, or is a source if none is.
fn recipe_of(bits: &[u8]) -> String {
    let mut text = "opdflow: 1\nname: trial\nstages:\n".to_owned();
    for (i, b) in bits.iter().enumerate() {
        let terms: Vec<_> = (0..i.min(8)).filter(|j| b >> j & 1 == 1).map(|j| format!("t{j}: s{j}.value")).collect();
        let cpus = 1 + b % 3;
        text += &if terms.is_empty() {
            format!("  s{i}: {{uses: fake_source, with: {{value: {b}}}, resources: {{cpus: {cpus}}}}}\n")
        } else {
            format!(
                "  s{i}: {{uses: fake_sum, needs: {{terms: {{{}}}}}, resources: {{cpus: {cpus}}}}}\n",
                terms.join(", ")
            )
        };
    }
    text
}

struct Trial {
    ended: Ended,
    events: Vec<RunEvent>,
    starts: BTreeMap<String, u32>,
    most: usize,
}

fn trial(plan: &Plan, store: &Store, cpus: usize, fortunes: &[Fortune]) -> Trial {
    let threads = Threads {
        workers: with_fake_workers(Workers::new()),
        fortunes: Mutex::new(fortunes.to_vec()),
        used: Arc::default(),
        most: AtomicUsize::new(0),
        starts: Mutex::default(),
    };
    let n = plan.stages.len();
    let order = Order {
        strict: false,
        doubts: Vec::new(),
        plan,
        wanted: vec![true; n],
        forced: vec![false; n],
        urgency: &|| plan.critical(|_| 1.0),
        keep_going: true,
        checkpoint_seconds: 60.0,
        store,
        executor: &threads,
        slots: Slots::new(cpus, vec![]),
    };
    let (inbox, messages) = channel();
    let mut events = Vec::new();
    let ended = run(order, (inbox, &messages), &mut |e| events.push(e.clone())).unwrap();
    Trial { ended, events, starts: threads.starts.into_inner().unwrap(), most: threads.most.into_inner() }
}

fn fortune() -> impl Strategy<Value = Fortune> {
    prop_oneof![6 => Just(Fortune::Good), 1 => Just(Fortune::Mute), 2 => Just(Fortune::Lost), 1 => Just(Fortune::Crash)]
}

proptest! {
    // Each case writes a store to the disk.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_run_ends_as_it_should(
        bits in prop::collection::vec(any::<u8>(), 1..7),
        fortunes in prop::collection::vec(fortune(), 0..10),
        cpus in 1usize..4,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let registry = with_fakes(Registry::new());
        let loaded = recipe::parse(Path::new("r.yaml"), recipe_of(&bits), &registry, &Overrides::default());
        let plan = Plan::new(loaded.map_err(|d| d.render(false)).unwrap(), NumericFacts::default()).map_err(|d| d.render(false)).unwrap();

        let first = trial(&plan, &store, cpus, &fortunes);
        prop_assert!(first.most <= cpus, "{} of {cpus} slots in use", first.most);
        prop_assert!(first.starts.values().all(|n| *n <= 2), "{:?}", first.starts);
        let failed = first.events.iter().filter(|e| matches!(e, RunEvent::Failed { .. })).count();
        prop_assert_eq!(first.ended.ending, if failed > 0 { Ending::Failed } else { Ending::Complete });
        for (i, stage) in plan.stages.iter().enumerate() {
            let upstream_there = plan.upstream(i).into_iter().all(|u| first.ended.records[u].is_some());
            prop_assert!(upstream_there || !first.starts.contains_key(&stage.spec.name));
        }

        // Without misfortune everything comes to be, and a third run starts nothing.
        let second = trial(&plan, &store, cpus, &[]);
        prop_assert_eq!(second.ended.ending, Ending::Complete);
        let third = trial(&plan, &store, cpus, &[]);
        prop_assert!(third.starts.is_empty());
        prop_assert_eq!(second.ended.records, third.ended.records);
    }
}
