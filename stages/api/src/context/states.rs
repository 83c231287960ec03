//! How far each of several processes of a stage is. Each writes its state into a file of its own, every two seconds and from a thread
//! of its own, so that it does while the work waits; the one that leads reads all of them and reports.

use crate::clock::cpu_seconds;
use crate::{Event, EventSink, Rank, RankState};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a process writes its state.
const EVERY: Duration = Duration::from_secs(2);

/// How often states are reported in which no step has changed.
const AT_LEAST: Duration = Duration::from_secs(10);

/// A process whose state has not changed for so long is silent. Several machines may see each other's files late.
const SILENT: Duration = Duration::from_secs(15);

/// How a process waits for the others of its stage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waits {
    /// Seconds in all, the wait that it is in included.
    pub total: f64,
    /// Seconds of the wait that it is in; 0 while it works.
    pub now: f64,
}

/// A file's content.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// Counts up with each writing.
    beat: u64,
    step: u64,
    cpu_seconds: f64,
    waited: f64,
    waits: f64,
}

/// What says how this process waits, and since when.
type Meter = (Instant, Box<dyn Fn() -> Waits + Send>);

/// What the work tells the thread.
#[derive(Default)]
struct Own {
    step: AtomicU64,
    meter: Mutex<Option<Meter>>,
}

impl Own {
    fn state(&self, beat: u64) -> State {
        let meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        let (waited, waits) = meter.as_ref().map_or((0.0, 0.0), |(since, waits)| {
            let found = waits();
            let age = since.elapsed().as_secs_f64();
            (if age > 0.0 { (found.total / age).clamp(0.0, 1.0) } else { 0.0 }, found.now)
        });
        State { beat, step: self.step.load(Ordering::Relaxed), cpu_seconds: cpu_seconds(), waited, waits }
    }
}

/// The states of the processes of a stage, as one of them tells and reads them.
pub(super) struct States {
    folder: PathBuf,
    world: usize,
    own: Arc<Own>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl States {
    /// Begins to tell those of process `rank` in `folder`, which is there; and to report all as `events`, if it leads.
    pub fn begin(rank: &Rank, folder: &Path, events: EventSink) -> Result<Self> {
        let own = Arc::new(Own::default());
        let (end, ended) = channel();
        let mut told = Told { folder: folder.to_owned(), number: rank.number, own: own.clone(), beat: 0 };
        let mut read = rank.leads().then(|| Read::new(folder, rank.world, events));
        let work = move || {
            loop {
                told.write();
                read.iter_mut().for_each(Read::report);
                if ended.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    // The last word, for the sum of the costs.
                    return told.write();
                }
            }
        };
        let thread =
            std::thread::Builder::new().name("state".to_owned()).spawn(work).context("cannot start a thread")?;
        Ok(Self { folder: folder.to_owned(), world: rank.world, own, thread: Some((end, thread)) })
    }

    /// This process has done so many steps.
    pub fn reach(&self, step: u64) {
        self.own.step.store(step, Ordering::Relaxed);
    }

    /// What says how this process waits for the others.
    pub fn waits(&self, waits: Box<dyn Fn() -> Waits + Send>) {
        *self.own.meter.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), waits));
    }

    /// CPU seconds of the processes other than the one that leads, as far as they have told.
    pub fn others_cpu_seconds(&self) -> f64 {
        (1..self.world)
            .filter_map(|rank| Some(state_of(&self.folder, rank)?.cpu_seconds))
            .filter(|s| s.is_finite())
            .sum()
    }

    /// Writes the last state, and no more.
    pub fn end(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}

impl Drop for States {
    fn drop(&mut self) {
        self.end();
    }
}

/// Writes a file that others read, whole or not at all. `rank`: that of this process, whose parts have names of their own.
pub(super) fn write(path: &Path, rank: usize, text: &str) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!(".{name}-{rank}"));
    std::fs::write(&part, text).with_context(|| part.display().to_string())?;
    std::fs::rename(&part, path).with_context(|| path.display().to_string())
}

fn path_of(folder: &Path, rank: usize) -> PathBuf {
    folder.join(format!("state-{rank}"))
}

fn state_of(folder: &Path, rank: usize) -> Option<State> {
    serde_json::from_slice(&std::fs::read(path_of(folder, rank)).ok()?).ok()
}

/// What writes the file of this process.
struct Told {
    folder: PathBuf,
    number: usize,
    own: Arc<Own>,
    beat: u64,
}

impl Told {
    /// A state that cannot be written costs its report, and nothing else.
    fn write(&mut self) {
        self.beat += 1;
        let text = serde_json::to_string(&self.own.state(self.beat)).unwrap_or_default();
        let _ = write(&path_of(&self.folder, self.number), self.number, &text);
    }
}

/// What the process that leads has read of all.
struct Read {
    folder: PathBuf,
    events: EventSink,
    /// The newest state of each, and since when it is that.
    seen: Vec<(State, Instant)>,
    /// The newest report.
    reported: Option<(Instant, Vec<u64>)>,
}

impl Read {
    fn new(folder: &Path, world: usize, events: EventSink) -> Self {
        let seen = vec![(State::default(), Instant::now()); world];
        Self { folder: folder.to_owned(), events, seen, reported: None }
    }

    fn report(&mut self) {
        for (rank, seen) in self.seen.iter_mut().enumerate() {
            if let Some(state) = state_of(&self.folder, rank).filter(|state| state.beat != seen.0.beat) {
                *seen = (state, Instant::now());
            }
        }
        let ranks: Vec<RankState> = self.seen.iter().map(|(state, since)| told(state, since.elapsed())).collect();
        let steps: Vec<u64> = ranks.iter().map(|r| r.step).collect();
        let due = self.reported.as_ref().is_none_or(|(at, before)| *before != steps || at.elapsed() >= AT_LEAST);
        if due {
            self.reported = Some((Instant::now(), steps));
            self.events.send(&Event::Ranks { ranks });
        }
    }
}

/// As it is reported, of a state that was written `age` ago or a little more.
fn told(state: &State, age: Duration) -> RankState {
    let number = |n: f64| if n.is_finite() && n > 0.0 { n } else { 0.0 };
    let silent = if age >= SILENT { age.as_secs_f64() } else { 0.0 };
    RankState { step: state.step, waited: number(state.waited).min(1.0), waits: number(state.waits), silent }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(number: usize) -> Rank {
        Rank { number, world: 3, local: number, one_host: true, attempt: "a".to_owned() }
    }

    #[test]
    fn the_one_that_leads_reports_how_far_all_are_and_who_waits() {
        let folder = tempfile::tempdir().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = heard.clone();
        let events = EventSink::new(move |event| sink.lock().unwrap().push(event.clone()));
        let begin = |number, events| States::begin(&rank(number), folder.path(), events).unwrap();
        let mut others: Vec<States> = [1, 2].map(|number| begin(number, EventSink::silent())).into();
        others[0].reach(7);
        others[0].waits(Box::new(|| Waits { total: 1e9, now: 3.5 }));
        others[1].reach(6);
        others.iter_mut().for_each(States::end);
        let mut first = begin(0, events);
        first.reach(7);
        first.end();
        let heard = heard.lock().unwrap();
        let Some(Event::Ranks { ranks }) = heard.last() else { panic!("{heard:?}") };
        assert_eq!(ranks.len(), 3);
        assert_eq!((ranks[1].step, ranks[1].waited, ranks[1].waits, ranks[1].silent), (7, 1.0, 3.5, 0.0));
        assert_eq!((ranks[2].step, ranks[2].waits), (6, 0.0));
        assert!(first.others_cpu_seconds() > 0.0);
    }

    #[test]
    fn one_whose_state_does_not_change_is_silent_and_one_that_lies_is_cut() {
        let state = State { step: 4, waited: f64::NAN, waits: -1.0, ..State::default() };
        assert_eq!(told(&state, Duration::from_secs(3)), RankState { step: 4, waited: 0.0, waits: 0.0, silent: 0.0 });
        let found = told(&State { waited: 7.0, ..state }, SILENT);
        assert_eq!((found.waited, found.silent), (1.0, 15.0));
    }
}
