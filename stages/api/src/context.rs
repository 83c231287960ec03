//! What a running stage sees of the world.

mod beside;
mod settled;
mod states;

use crate::clock::{Clock, Cost};
use crate::port::{Member, members};
use crate::stop::StoppedAt;
use crate::warning::Warnings;
use crate::{Event, EventSink, Job, Rank, StopFlag, Warning};
use anyhow::{Context as _, Result};
use opdflow_cache::{Checkpoint, Lease, Object, SaveError, Store, Tenure, TreeEntry};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use beside::Beside;
use settled::Settled;
pub use states::Waits;

/// The file of a checkpoint that holds what was warned of.
const WARNINGS: &str = "warnings.json";

/// The work folder of a job, its checkpoints and its voice. A stage reads inputs and leaves outputs through it.
pub struct StageContext {
    store: Store,
    job: Job,
    events: EventSink,
    stop: StopFlag,
    /// A process that follows has none: the one that leads has it.
    lease: Option<Lease>,
    tenure: Option<Arc<Tenure>>,
    work: PathBuf,
    /// The other processes of the stage, if there are any.
    beside: Option<Beside>,
    metrics: Option<std::fs::File>,
    adopted: BTreeMap<String, Object>,
    /// Goes on from the checkpoint that we continue from.
    clock: Clock,
    last_checkpoint: Instant,
    last_progress: Option<Instant>,
    step: u64,
    warnings: RefCell<Warnings>,
    settled: Option<Settled>,
}

/// What is left when the stage is through.
pub(crate) struct Finished {
    pub folder: PathBuf,
    /// Outputs that are in the store already.
    pub adopted: BTreeMap<String, Object>,
    /// What was warned of, with the final counts.
    pub warnings: Vec<Warning>,
    pub cost: Cost,
    /// CPU seconds of the stage's other processes.
    pub others_cpu_seconds: f64,
    pub lease: Option<Lease>,
}

impl StageContext {
    pub(crate) fn new(
        store: Store,
        job: Job,
        rank: Option<Rank>,
        events: EventSink,
        stop: StopFlag,
        lease: Lease,
    ) -> Result<Self> {
        // Whatever an earlier attempt left half done is of no use: what counts is in checkpoints.
        let work = store.work_of(&lease)?;
        for part in ["inputs", "outputs"] {
            let folder = work.join(part);
            std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        }
        let beside = rank.map(|rank| Beside::lead(rank, &work, events.clone())).transpose()?;
        Ok(Self::at(store, job, (events, stop), Some(lease), work, beside))
    }

    /// The context of a process that follows another. Nothing if the work proves to be done already.
    pub(crate) fn follow(store: Store, job: Job, rank: Rank, stop: StopFlag) -> Result<Option<Self>> {
        let works = store.work_dir(&job.lineage)?;
        let done = || Ok(store.action(&job.key)?.is_some() && !job.force);
        let Some((beside, work)) = Beside::follow(rank, &works, done)? else { return Ok(None) };
        // What it would report, the one that leads reports.
        Ok(Some(Self::at(store, job, (EventSink::silent(), stop), None, work, Some(beside))))
    }

    fn at(
        store: Store,
        job: Job,
        (events, stop): (EventSink, StopFlag),
        lease: Option<Lease>,
        work: PathBuf,
        beside: Option<Beside>,
    ) -> Self {
        let clock = Clock::fresh(job.on_gpu());
        Self {
            store,
            job,
            events,
            stop,
            tenure: lease.as_ref().map(Lease::tenure),
            lease,
            work,
            beside,
            metrics: None,
            adopted: BTreeMap::new(),
            clock,
            last_checkpoint: Instant::now(),
            last_progress: None,
            step: 0,
            warnings: RefCell::default(),
            settled: None,
        }
    }

    /// Which of several processes this is; nothing for the only one.
    #[must_use]
    pub fn rank(&self) -> Option<&Rank> {
        self.beside.as_ref().map(Beside::rank)
    }

    /// The folder in which the processes of this attempt find each other, if there are several.
    #[must_use]
    pub fn meeting(&self) -> Option<&Path> {
        self.beside.as_ref().map(Beside::folder)
    }

    /// Whether another process leads this one.
    fn follows(&self) -> bool {
        self.rank().is_some_and(|rank| !rank.leads())
    }

    /// The error that says: memory ran out in one of several processes, all should begin anew with half the micro-batch.
    #[must_use]
    pub fn halve(&self) -> anyhow::Error {
        crate::rank::Halve.into()
    }

    /// The job: seed, device, threads.
    #[must_use]
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The artefact on `port` (`port.name` for one of a map), as a file or folder that the stage may read.
    ///
    /// # Errors
    /// The port is not connected, or the artefact is damaged in the store.
    pub fn input(&self, port: &str) -> Result<PathBuf> {
        self.maybe_input(port)?.with_context(|| format!("no artefact on input `{port}`"))
    }

    /// Like [`Self::input`], but an unconnected port is `None`.
    ///
    /// # Errors
    /// The artefact is damaged in the store.
    pub fn maybe_input(&self, port: &str) -> Result<Option<PathBuf>> {
        let Some(input) = self.job.inputs.get(port) else { return Ok(None) };
        let path = self.work.join("inputs").join(port);
        if let Some(beside) = self.beside.as_ref().filter(|_| self.follows()) {
            beside.wait_for(&path, self.job.deadline())?;
        } else if !path.exists() {
            self.store.place(&input.object, &path).with_context(|| format!("reading input `{port}`"))?;
        }
        Ok(Some(path))
    }

    /// Of the folder on `port` only these parts, files and folders by their path in it. A stage asks for the whole or
    /// for parts of an input, once. It saves the copy of what a stage does not read.
    ///
    /// # Errors
    /// As for [`Self::input`].
    pub fn input_parts(&self, port: &str, parts: &[&str]) -> Result<PathBuf> {
        let input = self.job.inputs.get(port).with_context(|| format!("no artefact on input `{port}`"))?;
        let path = self.work.join("inputs").join(port);
        let below =
            |file: &str, part: &str| file.strip_prefix(part).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        let keep = |file: &str| parts.iter().any(|part| below(file, part));
        if let Some(beside) = self.beside.as_ref().filter(|_| self.follows()) {
            beside.wait_for(&path, self.job.deadline())?;
        } else if !path.exists() {
            self.store.place_part(&input.object, &path, keep).with_context(|| format!("reading input `{port}`"))?;
        }
        Ok(path)
    }

    /// Where the artefact on `port` lies in the store, if it is connected.
    #[must_use]
    pub fn object(&self, port: &str) -> Option<&Object> {
        self.job.inputs.get(port).map(|i| &i.object)
    }

    /// The names on a map port, sorted.
    #[must_use]
    pub fn names(&self, port: &str) -> Vec<String> {
        self.members(port).into_iter().map(|m| m.name).collect()
    }

    /// The same, with what each is a seed of.
    #[must_use]
    pub fn members(&self, port: &str) -> Vec<Member> {
        members(self.job.inputs.iter().map(|(place, input)| (place, &input.of_seed)), port)
    }

    /// Where to put the output `port`: a path that does not exist yet, for a file or a folder.
    #[must_use]
    pub fn output(&self, port: &str) -> PathBuf {
        self.outputs().join(port)
    }

    fn outputs(&self) -> PathBuf {
        let own = self.beside.as_ref().and_then(Beside::own_outputs);
        own.unwrap_or_else(|| self.work.join("outputs"))
    }

    /// Makes the output `port` of files that lie elsewhere, each under its path in the output. They go straight into
    /// the store: shared copy-on-write where the file system can, else copied once. Returns what was read, for the files
    /// may have changed since the key was made.
    ///
    /// # Errors
    /// A file cannot be read; a full disk.
    pub fn adopt(&mut self, port: &str, files: &[(String, PathBuf)]) -> Result<Vec<TreeEntry>> {
        let object = self.store.put_files(files).with_context(|| format!("taking in the files of `{port}`"))?;
        self.adopted.insert(port.to_owned(), object);
        Ok(self.store.tree(&object.digest)?)
    }

    /// The newest checkpoint to continue from, at most `horizon` steps old, if there is one. Metrics of later
    /// steps are forgotten; the clock goes on from where it stood.
    ///
    /// # Errors
    /// The store cannot be read. A damaged checkpoint is no error: the one before it is taken.
    pub fn resume(&mut self, horizon: u64) -> Result<Option<Checkpoint>> {
        // A forced run is there to be compared with the first: it goes all the way by itself.
        let found = match &mut self.beside {
            Some(beside) if !beside.rank().leads() => beside.told_checkpoint(self.job.deadline())?,
            beside => {
                let kept = self.store.checkpoints(&self.job.lineage);
                let found = if self.job.force { None } else { kept.at_most(horizon)? };
                beside.as_mut().map_or(Ok(()), |beside| beside.tell_checkpoint(found.as_ref()))?;
                found
            }
        };
        self.step = found.as_ref().map_or(0, |c| c.step);
        self.beside.iter().for_each(|beside| beside.reach(self.step));
        let gpu = self.job.on_gpu();
        self.clock = found
            .as_ref()
            .map_or_else(|| Clock::fresh(gpu), |c| Clock::on_top_of(Cost::kept(&c.path, c.elapsed_seconds, gpu), gpu));
        self.keep_metrics(found.as_ref().map(|c| c.path.join("metrics.jsonl")))?;
        let saved = found.as_ref().and_then(|c| std::fs::read_to_string(c.path.join(WARNINGS)).ok());
        let before = self.warnings.get_mut().resume(saved.as_deref());
        before.into_iter().for_each(|w| self.events.send(&Event::Warning(w)));
        self.events.send(&Event::Started { step: self.step });
        Ok(found)
    }

    /// Keeps a checkpoint of `step`: `write` fills the folder that it is given. Returns when it is on the disk.
    ///
    /// # Errors
    /// What `write` says; a full disk.
    pub fn checkpoint(&mut self, step: u64, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let Some(lease) = self.lease.as_ref().filter(|_| !self.job.force) else { return Ok(()) };
        let checkpoints = self.store.checkpoints(&self.job.lineage).under(lease);
        let metrics = self.metrics_path();
        let cost = self.cost();
        let warnings = self.warnings.get_mut().saved();
        let settled = self.settled.clone();
        let saved = checkpoints.save(step, cost.seconds, 2, |folder| -> Result<()> {
            write(folder)?;
            cost.keep(folder).context("keeping the cost")?;
            if let Some(settled) = &settled {
                settled.keep(folder).context("keeping the micro-batch")?;
            }
            if metrics.exists() {
                std::fs::copy(&metrics, folder.join("metrics.jsonl")).context("keeping the metrics")?;
            }
            if let Some(warnings) = &warnings {
                std::fs::write(folder.join(WARNINGS), warnings).context("keeping the warnings")?;
            }
            Ok(())
        });
        match saved {
            Ok(_) => {}
            Err(SaveError::Write(error)) => return Err(error),
            Err(SaveError::Store(error)) => return Err(error).context("keeping a checkpoint"),
        }
        self.last_checkpoint = Instant::now();
        self.events.send(&Event::Checkpointed { step });
        Ok(())
    }

    /// Says that batches of so many rows fit this kind of device. It goes into every checkpoint from now on.
    pub fn settle(&mut self, device: &str, micro_batch: usize) {
        self.settled = Some(Settled { device: device.to_owned(), micro_batch });
    }

    /// What [`Self::settle`] said of this kind of device in an earlier attempt at this stage, or at a shorter one of its lineage.
    #[must_use]
    pub fn settled(&self, device: &str) -> Option<usize> {
        let newest = self.store.checkpoints(&self.job.lineage).list().into_iter().next_back()?;
        Settled::kept(&newest).filter(|settled| settled.device == device).map(|settled| settled.micro_batch)
    }

    /// Whether so much time has passed since the last checkpoint that the next is due. The answer never changes
    /// what a stage computes, only when it saves.
    #[must_use]
    pub fn checkpoint_due(&self) -> bool {
        !self.follows() && self.last_checkpoint.elapsed().as_secs_f64() >= self.job.checkpoint_seconds
    }

    /// Whether the stage should save a checkpoint and return [`Self::stopped`]. Poll it each step. Also where another host
    /// has taken over the lease: then nothing can be saved, and the work goes on when that is done with it.
    #[must_use]
    pub fn should_stop(&self) -> bool {
        // Of several processes one decides; the others end with it.
        !self.follows() && (self.stop.raised() || self.tenure.as_ref().is_some_and(|tenure| tenure.is_lost()))
    }

    /// The wish to stop itself, for threads of the stage.
    #[must_use]
    pub fn stop_flag(&self) -> StopFlag {
        self.stop.clone()
    }

    /// The error that says: stopped as asked, the checkpoint is at `step`.
    #[must_use]
    pub fn stopped(&self, step: u64) -> anyhow::Error {
        StoppedAt(step, None).into()
    }

    /// The same for a reason of the stage's own: something outside that it waits for, so that the same command goes on when it is there.
    #[must_use]
    pub fn stopped_for(&self, step: u64, why: impl Into<String>) -> anyhow::Error {
        StoppedAt(step, Some(why.into())).into()
    }

    /// Goes on, unless the stage was asked to stop. For a stage that has nothing to save before it does, or has saved it.
    ///
    /// # Errors
    /// [`Self::stopped`] at `step`, if it was asked to stop.
    pub fn go_on(&self, step: u64) -> Result<()> {
        if self.should_stop() { Err(self.stopped(step)) } else { Ok(()) }
    }

    /// Reports one number of one step.
    ///
    /// # Errors
    /// A full disk.
    pub fn metric(&mut self, step: u64, name: &str, value: f64) -> Result<()> {
        if self.follows() {
            return Ok(());
        }
        self.events.send(&Event::Metric { step, name: name.to_owned(), value });
        if self.metrics.is_none() {
            let path = self.metrics_path();
            self.metrics = Some(
                std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&path)
                    .with_context(|| path.display().to_string())?,
            );
        }
        if let Some(file) = &mut self.metrics {
            let value = serde_json::Number::from_f64(value).map_or(serde_json::Value::Null, serde_json::Value::Number);
            writeln!(file, "{}", serde_json::json!({"step": step, "name": name, "value": value}))
                .context("writing the metrics")?;
        }
        Ok(())
    }

    /// Forgets what was reported of steps after this one: of a checkpoint that the stage went on from, and did not need to.
    ///
    /// # Errors
    /// The disk.
    pub fn cut_metrics(&mut self, last: u64) -> Result<()> {
        self.metrics = None;
        let path = self.metrics_path();
        if !path.exists() {
            return Ok(());
        }
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?.get("step")?.as_u64();
        let kept: String =
            text.lines().filter(|line| step(line).is_none_or(|s| s <= last)).map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, kept).with_context(|| path.display().to_string())
    }

    /// Reports how far the stage is. Cheap enough for every step: the scheduler hears of it ten times a second at
    /// the most, and of the last step always.
    pub fn progress(&mut self, step: u64, total: u64, note: &str) {
        self.step = step;
        self.beside.iter().for_each(|beside| beside.reach(step));
        let due = self.last_progress.is_none_or(|t| t.elapsed().as_millis() >= 100);
        if due || step == total {
            self.last_progress = Some(Instant::now());
            if let Some(lease) = &self.lease {
                let _ = lease.note(format!("step {step} of {total}"));
            }
            self.events.send(&Event::Progress { step, total, note: note.to_owned() });
        }
    }

    /// What says how this process waits for the others of its stage, from whatever thread asks. It is reported with the progress of
    /// all processes, and tells which of them the others wait for.
    pub fn tell_waits(&self, waits: impl Fn() -> Waits + Send + 'static) {
        if let Some(beside) = &self.beside {
            beside.waits(Box::new(waits));
        }
    }

    /// A line for the log.
    pub fn say(&self, text: impl Into<String>) {
        self.events.send(&Event::Said { text: text.into() });
    }

    /// Warns of something that holds `count` times in all, as found while the stage sets out. The same words are told
    /// once; with the result they are kept, so that a later hit tells them again.
    pub fn warn(&self, code: &str, message: impl Into<String>, count: usize) {
        self.tell(|all| all.set(Warning::new(code, message, count as u64)));
    }

    /// Warns of something that holds once more, as found step by step. It is told the first time, and at the end with the
    /// number of times.
    pub fn warn_again(&self, code: &str, message: impl Into<String>) {
        self.tell(|all| all.add(Warning::new(code, message, 1)));
    }

    fn tell(&self, take: impl FnOnce(&mut Warnings) -> Option<Warning>) {
        let told = take(&mut self.warnings.borrow_mut());
        if let Some(warning) = told {
            self.events.send(&Event::Warning(warning));
        }
    }

    /// Seconds of work so far, those of earlier attempts included.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.cost().seconds
    }

    /// What the work has cost so far, earlier attempts included.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let mut cost = self.clock.read();
        let others = self.beside.as_ref().map_or(0.0, Beside::others_cpu_seconds);
        cost.cpu_seconds = cost.cpu_seconds.map(|own| own + others);
        cost
    }

    /// Tells the warnings whose count has grown, at the end of the work, good or bad.
    pub(crate) fn tell_counts(&mut self) {
        let grown = self.warnings.get_mut().grown();
        grown.into_iter().for_each(|w| self.events.send(&Event::Warning(w)));
    }

    fn metrics_path(&self) -> PathBuf {
        self.outputs().join("metrics")
    }

    /// Takes over the metrics of a checkpoint.
    fn keep_metrics(&mut self, saved: Option<PathBuf>) -> Result<()> {
        self.metrics = None;
        let path = self.metrics_path();
        let _ = std::fs::remove_file(&path);
        if let Some(saved) = saved.filter(|p| p.exists()) {
            std::fs::copy(&saved, &path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Finished> {
        if let Some(file) = &self.metrics {
            file.sync_all().context("writing the metrics")?;
        }
        if let Some(beside) = &mut self.beside {
            beside.part();
        }
        let cost = self.cost();
        let others_cpu_seconds = self.beside.as_ref().map_or(0.0, Beside::others_cpu_seconds);
        let folder = self.outputs();
        let warnings = self.warnings.into_inner().all();
        Ok(Finished { folder, adopted: self.adopted, cost, others_cpu_seconds, warnings, lease: self.lease })
    }
}
