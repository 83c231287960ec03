//! The other processes of a stage, and what they leave each other in files: that the work can begin, which checkpoint it goes on
//! from, what each has cost. Everything else goes from memory to memory, and is not known here.

use super::states::{self, States, Waits};
use crate::{EventSink, Fault, Rank, rank::PARTED};
use anyhow::{Context as _, Result};
use opdflow_cache::Checkpoint;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file that says that the work folder is this attempt's.
const READY: &str = "ready";

/// How often a file is looked for. A folder that several machines share is not asked more.
const LOOK: Duration = Duration::from_millis(50);

/// How long the one that leads waits for the others at the end.
const PARTING: Duration = Duration::from_secs(30);

/// This process among those of its stage.
pub(super) struct Beside {
    rank: Rank,
    folder: PathBuf,
    /// Checkpoints told so far.
    told: usize,
    states: Option<States>,
}

impl Beside {
    /// That of the one that leads, in the work folder of its lease. `events` hear how far all are.
    pub fn lead(rank: Rank, work: &Path, events: EventSink) -> Result<Self> {
        let mut beside = Self::new(rank, work);
        std::fs::create_dir_all(&beside.folder).with_context(|| beside.folder.display().to_string())?;
        beside.states = Some(States::begin(&beside.rank, &beside.folder, events)?);
        beside.write(READY, "")?;
        Ok(beside)
    }

    /// That of one that follows, once the other is ready, and the work folder of the other's lease, one of those below `works`; nothing if
    /// the work is `done` already.
    ///
    /// It waits for as long as that takes: the one that leads may wait for the lease, which another run has, and says so.
    pub fn follow(rank: Rank, works: &Path, mut done: impl FnMut() -> Result<bool>) -> Result<Option<(Self, PathBuf)>> {
        let (name, mut asked) = (Self::folder_of(&rank), Instant::now());
        let ready = |work: &PathBuf| work.join(&name).join(READY).exists();
        let find = || std::fs::read_dir(works).into_iter().flatten().flatten().map(|e| e.path()).find(ready);
        let work = loop {
            if let Some(work) = find() {
                break work;
            }
            if asked.elapsed() > Duration::from_secs(1) {
                asked = Instant::now();
                if done()? {
                    return Ok(None);
                }
            }
            std::thread::sleep(LOOK);
        };
        let mut beside = Self::new(rank, &work);
        let own = beside.own_outputs().context("a process that leads has no folder of its own")?;
        std::fs::create_dir_all(&own).with_context(|| own.display().to_string())?;
        beside.states = Some(States::begin(&beside.rank, &beside.folder, EventSink::silent())?);
        Ok(Some((beside, work)))
    }

    fn folder_of(rank: &Rank) -> String {
        format!("ranks-{}", rank.attempt)
    }

    fn new(rank: Rank, work: &Path) -> Self {
        let folder = work.join(Self::folder_of(&rank));
        Self { rank, folder, told: 0, states: None }
    }

    pub fn rank(&self) -> &Rank {
        &self.rank
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a process that follows writes what nobody keeps.
    pub fn own_outputs(&self) -> Option<PathBuf> {
        (!self.rank.leads()).then(|| self.folder.join(format!("outputs-{}", self.rank.number)))
    }

    /// Waits for a file or folder that the process that leads makes.
    pub fn wait_for(&self, path: &Path, deadline: Duration) -> Result<()> {
        let began = Instant::now();
        while path.symlink_metadata().is_err() {
            if began.elapsed() > deadline {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Err(Fault::machine(format!(
                    "{PARTED}: `{name}` did not come in {:.0} s",
                    deadline.as_secs_f64()
                ))
                .into());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Says from which checkpoint all go on.
    pub fn tell_checkpoint(&mut self, found: Option<&Checkpoint>) -> Result<()> {
        let text = serde_json::json!(found.map(|c| (c.step, &c.path, c.elapsed_seconds))).to_string();
        let name = self.next_checkpoint();
        self.write(&name, &text)
    }

    /// What [`Self::tell_checkpoint`] of the process that leads says.
    pub fn told_checkpoint(&mut self, deadline: Duration) -> Result<Option<Checkpoint>> {
        let name = self.next_checkpoint();
        let path = self.folder.join(name);
        self.wait_for(&path, deadline)?;
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let found: Option<(u64, PathBuf, f64)> = serde_json::from_str(&text).context("the word of a checkpoint")?;
        // Its files were verified where it was chosen.
        Ok(found.map(|(step, path, elapsed_seconds)| Checkpoint { step, path, elapsed_seconds, files: Vec::new() }))
    }

    fn next_checkpoint(&mut self) -> String {
        self.told += 1;
        format!("checkpoint-{}", self.told)
    }

    /// Says that this process has done its part; the one that leads waits until all have, for the folder goes with its work. One that
    /// was lost by now does not change what was made.
    pub fn part(&mut self) {
        if let Some(states) = &mut self.states {
            states.end();
        }
        if !self.rank.leads() {
            let _ = self.write(&format!("done-{}", self.rank.number), "");
            return;
        }
        let began = Instant::now();
        let done = |rank: usize| self.folder.join(format!("done-{rank}")).exists();
        while !(1..self.rank.world).all(done) && began.elapsed() < PARTING {
            std::thread::sleep(LOOK);
        }
    }

    /// This process has done so many steps.
    pub fn reach(&self, step: u64) {
        self.states.iter().for_each(|states| states.reach(step));
    }

    /// What says how this process waits for the others.
    pub fn waits(&self, waits: Box<dyn Fn() -> Waits + Send>) {
        if let Some(states) = &self.states {
            states.waits(waits);
        }
    }

    /// CPU seconds of the other processes, as far as they have told.
    pub fn others_cpu_seconds(&self) -> f64 {
        if self.rank.leads() { self.states.as_ref().map_or(0.0, States::others_cpu_seconds) } else { 0.0 }
    }

    /// Whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        states::write(&self.folder.join(name), self.rank.number, text)
    }
}
