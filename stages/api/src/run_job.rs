//! What a stage's process does with its job: the lease, the work, the record of what came of it.

use crate::clock::cpu_seconds;
use crate::context::Finished;
use crate::rank::{HALVE, Halve};
use crate::stop::StoppedAt;
use crate::{Cost, Event, EventSink, Fault, FaultClass, Job, Rank, StageContext, StopFlag, Warning, Worker};
use anyhow::{Context as _, Result};
use opdflow_cache::{ActionRecord, Lease, Output, Store};
use std::collections::BTreeMap;
use std::time::Duration;

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
    /// Memory ran out in one of several processes: all of them are to begin anew with half the micro-batch.
    Halve,
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
            Self::Halve => HALVE,
            Self::Failed(class, _) => class.exit_code(),
        }
    }
}

/// Runs `job` with `worker` under the lease of its lineage and publishes what it leaves. Never panics on what the
/// stage does; every ending is also an [`Event`]. `rank`: which of several processes of the stage this is; one that follows
/// publishes nothing.
pub fn run_job(worker: &dyn Worker, job: &Job, rank: Option<&Rank>, events: &EventSink, stop: &StopFlag) -> Outcome {
    let outcome = match in_store(worker, job, rank, events, stop) {
        Ok(outcome) => outcome,
        Err(error) if error.downcast_ref::<Halve>().is_some() => Outcome::Halve,
        Err(error) => match error.downcast_ref::<StoppedAt>() {
            Some(at) => {
                let why = at.1.as_deref().map(opdflow_io::terminal::message);
                events.send(&Event::Stopped { step: at.0, why });
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
fn in_store(
    worker: &dyn Worker,
    job: &Job,
    rank: Option<&Rank>,
    events: &EventSink,
    stop: &StopFlag,
) -> Result<Outcome> {
    let store = Store::reopen(&job.store)?;
    let _in_use = store.shared()?;
    if let Some(rank) = rank.filter(|rank| !rank.leads()) {
        return follow(&store, worker, job, rank, stop);
    }
    let outcome = loop {
        let lease = wait(&store, job, events, stop)?;
        let tenure = lease.tenure();
        let outcome = attempt(&store, worker, job, (rank, events, stop), lease);
        // Another host took this process for dead, and has the work now: whatever came of ours, theirs counts. It is there
        // when they have given the lease back. Of several processes, all begin anew.
        let lost = tenure.is_lost() && outcome.is_err() && !stop.raised() && store.still_there().is_ok();
        if lost && rank.is_none() {
            let text = "another host took the lease over, for this process had given no sign of life: waiting for it";
            events.send(&Event::Said { text: text.to_owned() });
            continue;
        }
        break outcome;
    };
    if let Err(error) = &outcome
        && let Err(gone) = store.still_there()
        && error.downcast_ref::<StoppedAt>().is_none()
    {
        store.clear_remains(&job.lineage);
        return Err(gone.into());
    }
    outcome
}

/// Does the work beside the process that leads, and leaves nothing.
fn follow(store: &Store, worker: &dyn Worker, job: &Job, rank: &Rank, stop: &StopFlag) -> Result<Outcome> {
    let followed = StageContext::follow(store.clone(), job.clone(), rank.clone(), stop.clone())?;
    let Some(mut context) = followed else { return Ok(Outcome::Published { found: true }) };
    work(worker, job, &mut context)?;
    context.finish()?;
    Ok(Outcome::Published { found: false })
}

/// The work itself. A panic is an error.
fn work(worker: &dyn Worker, job: &Job, context: &mut StageContext) -> Result<()> {
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run(&job.params, context)));
    context.tell_counts();
    match run {
        Ok(result) => result,
        Err(panic) => anyhow::bail!("the stage panicked: {}", words_of(panic.as_ref())),
    }
}

/// Waits for the lease. One that another host holds comes when that has given no sign of life for long enough.
fn wait(store: &Store, job: &Job, events: &EventSink, stop: &StopFlag) -> Result<Lease> {
    loop {
        if let Some(lease) = store.try_lease(&job.lineage)? {
            return Ok(lease);
        }
        let here = &store.setting().host.id;
        let (pid, host, note) = store.lease_holder(&job.lineage).map_or_else(Default::default, |h| {
            let elsewhere = !h.host_id.is_empty() && h.host_id != *here;
            (h.pid, if elsewhere { h.host } else { String::new() }, h.note)
        });
        events.send(&Event::Waiting { pid, host, note });
        if stop.raised() {
            return Err(StoppedAt(0, None).into());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn attempt(
    store: &Store,
    worker: &dyn Worker,
    job: &Job,
    (rank, events, stop): (Option<&Rank>, &EventSink, &StopFlag),
    lease: Lease,
) -> Result<Outcome> {
    if !job.force
        && let Some(record) = store.action(&job.key)?
        && record.outputs.values().all(|o| store.present(&o.object))
    {
        events.send(&Event::Published { seconds: record.seconds, found: true, process_cpu_seconds: None });
        return Ok(Outcome::Published { found: true });
    }
    job.doubts.iter().for_each(|doubt| events.send(&Event::Warning(doubt.clone())));
    let mut context =
        StageContext::new(store.clone(), job.clone(), rank.cloned(), events.clone(), stop.clone(), lease)?;
    work(worker, job, &mut context)?;
    let Finished { folder, adopted, cost, others_cpu_seconds, warnings, lease } = context.finish()?;
    lease.as_ref().map_or(Ok(()), Lease::check)?;
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
    if let Some(lease) = &lease {
        store.clear_work(lease)?;
    }
    let process_cpu_seconds = Some(cpu_seconds() + others_cpu_seconds);
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

impl Job {
    /// The facts that its record keeps, which mean nothing to the key. Warnings are among them, so that a later hit shows
    /// them again.
    fn facts(&self, cost: &Cost, warnings: &[Warning]) -> BTreeMap<String, String> {
        let mut facts = self.note.clone();
        let own = [("stage", &self.name), ("device", &self.device), ("program", &self.program)];
        facts.extend(own.map(|(name, value)| (name.to_owned(), value.clone())));
        facts.insert("threads".to_owned(), self.threads.to_string());
        if self.ranks > 1 {
            facts.insert("ranks".to_owned(), self.ranks.to_string());
        }
        let seconds = [("cpu_seconds", cost.cpu_seconds), ("gpu_seconds", cost.gpu_seconds)];
        facts.extend(seconds.into_iter().filter_map(|(name, s)| Some((name.to_owned(), format!("{:.3}", s?)))));
        if let Some(text) = serde_json::to_string(warnings).ok().filter(|_| !warnings.is_empty()) {
            facts.insert(WARNINGS.to_owned(), text);
        }
        facts
    }
}
