//! One stage, ready to run, and the process that runs it.

use crate::clock::cpu_seconds;
use crate::context::Finished;
use crate::port::OfSeed;
use crate::{Cost, Environment, Event, EventSink, Fault, FaultClass, StageContext, StopFlag, Warning, Worker};
use anyhow::{Context as _, Result};
use opdflow_cache::{ActionRecord, Digest, Object, Output, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One stage with everything that its process needs. The scheduler writes it as JSON; paths are the machine's own
/// and not part of any key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The stage's name in the recipe, for messages only.
    pub name: String,
    /// The stage kind.
    pub kind: String,
    /// Normalised parameters.
    pub params: Value,
    /// Artefacts by port; those of a map port as `port.name`.
    pub inputs: BTreeMap<String, JobInput>,
    /// The seed.
    pub seed: u64,
    /// The stage's key.
    pub key: Digest,
    /// The key less the horizon: checkpoints live under it.
    pub lineage: Digest,
    /// The manifest that the key was made from, kept whole in the action record.
    pub manifest: Value,
    /// Threads that the stage may use.
    pub threads: usize,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// What its process finds in its environment, beside the user's own.
    #[serde(default)]
    pub environment: Environment,
    /// The recipe's folder, for relative paths in parameters.
    pub folder: PathBuf,
    /// Root of the store.
    pub store: PathBuf,
    /// Seconds between checkpoints that the stage makes of its own accord.
    pub checkpoint_seconds: f64,
    /// Compute even if the result is there already (the result is then kept as another attempt).
    pub force: bool,
    /// The program and its version, for the record.
    #[serde(default)]
    pub program: String,
    /// What the recipe and its files are doubted for, found before the run: for the stage's log. Nothing of it is kept
    /// with the result, because it is found again each time.
    #[serde(default)]
    pub doubts: Vec<Warning>,
    /// Facts for the record beside its own: what its time and its size hold for.
    #[serde(default)]
    pub note: BTreeMap<String, String>,
}

impl Job {
    /// Whether it holds a GPU while it runs.
    #[must_use]
    pub fn on_gpu(&self) -> bool {
        self.device.starts_with("cuda")
    }

    /// The facts that its record keeps, which mean nothing to the key. Warnings are among them, so that a later hit shows
    /// them again.
    fn facts(&self, cost: &Cost, warnings: &[Warning]) -> BTreeMap<String, String> {
        let mut facts = self.note.clone();
        let own = [("stage", &self.name), ("device", &self.device), ("program", &self.program)];
        facts.extend(own.map(|(name, value)| (name.to_owned(), value.clone())));
        facts.insert("threads".to_owned(), self.threads.to_string());
        let seconds = [("cpu_seconds", cost.cpu_seconds), ("gpu_seconds", cost.gpu_seconds)];
        facts.extend(seconds.into_iter().filter_map(|(name, s)| Some((name.to_owned(), format!("{:.3}", s?)))));
        if let Some(text) = serde_json::to_string(warnings).ok().filter(|_| !warnings.is_empty()) {
            facts.insert(WARNINGS.to_owned(), text);
        }
        facts
    }
}

/// An artefact on an input port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobInput {
    /// Where in the store.
    pub object: Object,
    /// Its port type.
    pub port_type: String,
    /// What it is a seed of, if it is one of several that a matrix was collected from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_seed: Option<OfSeed>,
}

/// How a stage's process ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All outputs are in the store.
    Published {
        /// Whether somebody else had computed them meanwhile.
        found: bool,
    },
    /// It stopped at a checkpoint as asked: exit code [`crate::STOPPED`], run it again to go on.
    Stopped,
    /// It failed.
    Failed(FaultClass, String),
}

impl Outcome {
    /// The exit code of the process.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Published { .. } => 0,
            Self::Stopped => crate::STOPPED as i32,
            Self::Failed(class, _) => class.exit_code(),
        }
    }
}

/// The error that a stage returns to say that it stopped because it was asked to.
#[derive(Debug)]
pub(crate) struct StoppedAt(pub u64);

impl std::fmt::Display for StoppedAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped at step {}", self.0)
    }
}

impl std::error::Error for StoppedAt {}

/// Runs `job` with `worker` under the lease of its lineage and publishes what it leaves. Never panics on what the
/// stage does; every ending is also an [`Event`].
pub fn run_job(worker: &dyn Worker, job: &Job, events: &EventSink, stop: &StopFlag) -> Outcome {
    let outcome = match in_store(worker, job, events, stop) {
        Ok(outcome) => outcome,
        Err(error) => match error.downcast_ref::<StoppedAt>() {
            Some(at) => {
                events.send(&Event::Stopped { step: at.0 });
                Outcome::Stopped
            }
            None => Outcome::Failed(Fault::class_of(&error), opdflow_io::terminal::message(&format!("{error:#}"))),
        },
    };
    if let Outcome::Failed(class, message) = &outcome {
        events.send(&Event::Failed { class: *class, message: message.clone() });
    }
    outcome
}

/// The store is the run's: one that was deleted is not begun again by a stage. If it goes while the stage works, that
/// is the error, whatever the stage itself met.
fn in_store(worker: &dyn Worker, job: &Job, events: &EventSink, stop: &StopFlag) -> Result<Outcome> {
    let store = Store::reopen(&job.store)?;
    let _in_use = store.shared()?;
    let outcome = attempt(&store, worker, job, events, stop);
    if let Err(error) = &outcome
        && let Err(gone) = store.still_there()
        && error.downcast_ref::<StoppedAt>().is_none()
    {
        store.clear_remains(&job.lineage);
        return Err(gone.into());
    }
    outcome
}

fn attempt(store: &Store, worker: &dyn Worker, job: &Job, events: &EventSink, stop: &StopFlag) -> Result<Outcome> {
    let lease = loop {
        if let Some(lease) = store.try_lease(&job.lineage)? {
            break lease;
        }
        let holder = store.lease_holder(&job.lineage);
        let (pid, note) = holder.map_or((0, String::new()), |h| (h.pid, h.note));
        events.send(&Event::Waiting { pid, note });
        if stop.raised() {
            return Err(StoppedAt(0).into());
        }
        std::thread::sleep(Duration::from_millis(300));
    };
    if !job.force
        && let Some(record) = store.action(&job.key)?
        && record.outputs.values().all(|o| store.present(&o.object))
    {
        events.send(&Event::Published { seconds: record.seconds, found: true, process_cpu_seconds: None });
        return Ok(Outcome::Published { found: true });
    }
    job.doubts.iter().for_each(|doubt| events.send(&Event::Warning(doubt.clone())));
    let mut context = StageContext::new(store.clone(), job.clone(), events.clone(), stop.clone(), lease)?;
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run(&job.params, &mut context)));
    context.tell_counts();
    match run {
        Ok(result) => result?,
        Err(panic) => anyhow::bail!("the stage panicked: {}", words_of(panic.as_ref())),
    }
    let Finished { folder, adopted, cost, warnings, lease } = context.finish()?;
    let mut outputs = BTreeMap::new();
    for port in worker.describe().outputs.iter().chain([&crate::kind::METRICS]) {
        let path = folder.join(port.name);
        let object = match adopted.get(port.name) {
            Some(object) => *object,
            None if path.symlink_metadata().is_err() => {
                anyhow::ensure!(port.optional, "stage kind `{}` left no output `{}`", job.kind, port.name);
                continue;
            }
            None => store.take_path(&path).with_context(|| format!("keeping output `{}`", port.name))?,
        };
        outputs.insert(
            port.name.to_owned(),
            Output { object, port_type: port.port_type.to_owned(), semantic: port.semantic },
        );
    }
    let record = ActionRecord {
        format: opdflow_cache::RECORD_FORMAT,
        key: job.key,
        lineage: job.lineage,
        manifest: job.manifest.clone(),
        outputs,
        seconds: cost.seconds,
        finished: opdflow_cache::utc_now(),
        note: job.facts(&cost, &warnings),
    };
    store.publish(&record)?;
    store.clear_work(&lease)?;
    let process_cpu_seconds = Some(cpu_seconds());
    events.send(&Event::Published { seconds: cost.seconds, found: false, process_cpu_seconds });
    Ok(Outcome::Published { found: false })
}

/// The note of an action record that holds its warnings.
const WARNINGS: &str = "warnings";

/// The warnings that the making of a result gave.
#[must_use]
pub fn warnings_of(record: &ActionRecord) -> Vec<Warning> {
    record.note.get(WARNINGS).map(|text| crate::warning::read(text)).unwrap_or_default()
}

/// What a panic said.
pub(crate) fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    text.unwrap_or_else(|| "no message".into())
}
