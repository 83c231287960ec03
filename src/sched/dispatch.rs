//! The loop of a run: looks up what is ready, starts what is missing, listens to what runs.
//!
//! One thread owns all state. Children and the signal handler only send messages.

use super::board::Board;
use super::difference;
use super::fate::{self, Fate};
use super::lookup::{self, Care, LookUp};
use super::order::{Ended, Ending, Order, need_of};
use super::slots::{Need, Share};
use super::state::{Move, State};
use crate::exec::{End, JobNews, Message, Process};
use crate::plan::Keys;
use crate::runlog::RunEvent;
use anyhow::{Result, bail};
use opdflow_api::cache::{ActionRecord, Digest, utc_now};
use opdflow_api::warning::gather;
use opdflow_api::{Arity, Event, Fault, FaultClass, Job, JobInput, Warning, warnings_of};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

/// A process that is lost is started again this often, and a result that proves damaged is made again this often.
const RETRIES: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stopping {
    No,
    Asked,
    Killed,
}

/// A stage whose process runs.
struct Run {
    process: Box<dyn Process>,
    share: Share,
    started: Instant,
    /// The same moment as action records write it.
    began: String,
    published: Option<bool>,
    /// CPU seconds of its process, once it has said so.
    cpu_seconds: Option<f64>,
    failure: Option<(FaultClass, String)>,
    stopped_at: Option<(u64, Option<String>)>,
    /// Why a strict run ends it.
    objection: Option<String>,
}

/// What is known of a stage apart from its state.
#[derive(Default)]
struct Facts {
    keys: Option<Keys>,
    record: Option<ActionRecord>,
    /// The store was asked and does not have the result.
    missing: bool,
    losses: u32,
    damages: u32,
    starts: u32,
    /// It was computed in this run, whatever became of the result since.
    computed: bool,
    /// What it was warned of so far, told once each.
    warned: Vec<Warning>,
}

struct Dispatch<'a, 't> {
    order: Order<'a>,
    board: Board,
    facts: Vec<Facts>,
    running: BTreeMap<usize, Run>,
    stopping: Stopping,
    urgency: Option<Vec<f64>>,
    inbox: Sender<Message>,
    tell: &'t mut dyn FnMut(&RunEvent),
}

/// Runs `order` to its end, whatever end that is. Messages of children and of the signal handler come through
/// `channel`; everything that happens goes to `tell`.
///
/// # Errors
/// A bug of ours. Running children are left to finish.
pub fn run(
    order: Order<'_>,
    channel: (Sender<Message>, &Receiver<Message>),
    tell: &mut dyn FnMut(&RunEvent),
) -> Result<Ended> {
    let needs = (0..order.plan.stages.len()).map(|i| order.plan.upstream(i)).collect();
    let board = Board::new(needs, &order.wanted)?;
    let fresh = |i: usize| Facts { warned: order.doubts.get(i).cloned().unwrap_or_default(), ..Facts::default() };
    let facts = (0..order.plan.stages.len()).map(fresh).collect();
    let (inbox, messages) = channel;
    let mut dispatch =
        Dispatch { order, board, facts, running: BTreeMap::new(), stopping: Stopping::No, urgency: None, inbox, tell };
    loop {
        dispatch.look_up()?;
        dispatch.start()?;
        if dispatch.board.ended() && dispatch.running.is_empty() {
            return Ok(dispatch.ended());
        }
        if dispatch.running.is_empty() {
            bail!(
                "no stage can go on, and not all have ended: {:?}; this is a bug in opdflow",
                dispatch.board.states()
            );
        }
        match messages.recv()? {
            Message::Event(stage, event) => dispatch.hear(stage, event),
            Message::Job(stage, news) => dispatch.job_news(stage, news),
            Message::Ended(stage, end) => dispatch.end(stage, &end)?,
            Message::Interrupt => dispatch.interrupt()?,
        }
    }
}

impl Dispatch<'_, '_> {
    fn name(&self, stage: usize) -> String {
        self.order.plan.stages[stage].spec.name.clone()
    }

    fn say(&mut self, event: RunEvent) {
        (self.tell)(&event);
    }

    /// Looks up every ready stage; each hit may make others ready.
    fn look_up(&mut self) -> Result<()> {
        loop {
            let next = self.board.all(State::Ready).find(|s| !self.facts[*s].missing);
            let Some(stage) = next else { return Ok(()) };
            self.look_up_one(stage)?;
            self.pass_warnings();
        }
    }

    fn look_up_one(&mut self, stage: usize) -> Result<()> {
        let inputs = match self.inputs(stage) {
            Ok(inputs) => inputs,
            Err(message) => return self.fail(stage, FaultClass::User, message),
        };
        let digests = inputs.into_iter().map(|(port, input)| (port, input.object.digest)).collect();
        let keys = self.order.plan.keys(stage, &digests);
        let key = keys.key;
        let known = self.facts[stage].keys.replace(keys);
        if known.is_none_or(|k| k.key != key) {
            let lineage = self.lineage(stage).unwrap_or(key);
            self.say(RunEvent::Keyed { stage: self.name(stage), key, lineage });
        }
        if self.is_forced(stage) {
            self.facts[stage].missing = true;
            return Ok(());
        }
        let read_later = self.order.plan.dependents(stage).into_iter().any(|d| self.order.wanted[d]);
        let care = if read_later { Care::Sizes } else { Care::Bytes };
        match lookup::look_up(self.order.store, &key, care) {
            Ok(LookUp::Hit(record)) => {
                let (saved_seconds, outputs) = (record.seconds, digests_of(&record));
                let warnings = warnings_of(&record);
                if let Some(objection) = self.objection(&warnings) {
                    self.remember(stage, &warnings);
                    return self.fail(stage, FaultClass::User, objection);
                }
                self.facts[stage].record = Some(record);
                self.apply(stage, Move::Hit)?;
                self.say(RunEvent::Hit { stage: self.name(stage), saved_seconds, outputs });
                self.remember(stage, &warnings);
            }
            Ok(LookUp::Damaged(message)) => {
                self.facts[stage].missing = true;
                self.say(RunEvent::Damaged { stage: self.name(stage), message });
            }
            Ok(LookUp::Nothing) => self.facts[stage].missing = true,
            Err(error) => self.fail(stage, FaultClass::Machine, error.to_string())?,
        }
        Ok(())
    }

    /// The artefacts that a stage reads, by port. Everything upstream is there.
    fn inputs(&self, stage: usize) -> Result<BTreeMap<String, JobInput>, String> {
        let planned = &self.order.plan.stages[stage];
        let mut inputs = BTreeMap::new();
        for (port, (upstream, from)) in &planned.needs {
            let output = self.facts[*upstream].record.as_ref().and_then(|r| r.outputs.get(from));
            if let Some(output) = output {
                let (port_type, of_seed) = (output.port_type.clone(), planned.spec.of_seed.get(port).cloned());
                inputs.insert(port.clone(), JobInput { object: output.object, port_type, of_seed });
                continue;
            }
            let maker = &self.order.plan.stages[*upstream].spec;
            if maker.kind.output(from).is_some_and(|output| !output.optional) {
                // A kind that leaves more than before raises its `semantics`. As if nothing were connected is not how to go on.
                let name = &maker.name;
                return Err(format!(
                    "input `{port}` reads `{name}.{from}`, which the result of `{name}` in the store does not have, though its kind always leaves it: a bug of ours, please report it\nhelp: in another store it is made anew: `--store FOLDER`"
                ));
            }
            let base = port.split('.').next().unwrap_or(port);
            let may_lack =
                planned.spec.kind.input(base).is_some_and(|i| matches!(i.arity, Arity::Optional | Arity::Any));
            if !may_lack {
                let name = &maker.name;
                return Err(format!(
                    "input `{port}` reads `{name}.{from}`, which `{name}` left out\nhelp: its parameters decide whether it makes `{from}`"
                ));
            }
        }
        Ok(inputs)
    }

    fn lineage(&self, stage: usize) -> Option<Digest> {
        self.facts[stage].keys.as_ref().map(|k| k.lineage)
    }

    /// Starts what is ready and missing, the most urgent first, as far as slots are free. What another run computes right now
    /// comes last: its process would only hold slots and wait. That is a question to the disk, asked only of what could start.
    fn start(&mut self) -> Result<()> {
        // Every stage takes a slot. Most messages come while all are taken, and a plan may have thousands of stages.
        if self.order.slots.free() == 0 {
            return Ok(());
        }
        let mut ready: Vec<_> = self.board.all(State::Ready).filter(|s| self.facts[*s].missing).collect();
        if ready.is_empty() {
            return Ok(());
        }
        let urgency = self.urgency.get_or_insert_with(self.order.urgency);
        ready.sort_by(|a, b| urgency[*b].total_cmp(&urgency[*a]).then(a.cmp(b)));
        let mut last = Vec::new();
        for stage in ready {
            let Some(share) = self.share(stage) else { continue };
            if self.lineage(stage).is_some_and(|l| self.order.store.lease_holder(&l).is_some()) {
                self.order.slots.give(share);
                last.push(stage);
            } else {
                self.start_one(stage, share)?;
            }
        }
        for stage in last {
            if let Some(share) = self.share(stage) {
                self.start_one(stage, share)?;
            }
        }
        Ok(())
    }

    /// What a ready stage needs of the machine, taken, if it may start now and that much is free.
    fn share(&mut self, stage: usize) -> Option<Share> {
        // The same work under another name: wait for it here rather than in a process that holds slots.
        let twin = self.running.keys().any(|r| self.lineage(*r) == self.lineage(stage));
        let most = self.order.executor.capacity();
        let full = self.order.slots.free() == 0 || self.running.len() >= most.processes;
        if full || twin || self.board.state(stage) != State::Ready {
            return None;
        }
        let planned = &self.order.plan.stages[stage];
        let need = need_of(planned);
        self.order.slots.take(Need { cpus: need.cpus.min(most.cpus), ..need })
    }

    fn start_one(&mut self, stage: usize, share: Share) -> Result<()> {
        let job = match self.job(stage, &share) {
            Ok(job) => job,
            Err(message) => {
                self.order.slots.give(share);
                return self.fail(stage, FaultClass::Bug, message);
            }
        };
        let gpus = (!share.gpus.is_empty()).then(|| share.gpus.join(","));
        let process = match self.order.executor.start(stage, &job, gpus.as_deref(), &self.inbox) {
            Ok(process) => process,
            Err(error) => {
                self.order.slots.give(share);
                return self.fail(stage, Fault::class_of(&error), format!("{error:#}"));
            }
        };
        self.apply(stage, Move::Start)?;
        self.facts[stage].starts += 1;
        let id = process.id();
        self.say(RunEvent::Started {
            stage: self.name(stage),
            pid: id.pid,
            host: id.host,
            attempt: self.facts[stage].starts,
            threads: job.threads,
            device: self.order.executor.device(gpus.as_deref(), share.ranks),
        });
        let run = Run {
            process,
            share,
            started: Instant::now(),
            began: utc_now(),
            published: None,
            cpu_seconds: None,
            failure: None,
            stopped_at: None,
            objection: None,
        };
        self.running.insert(stage, run);
        Ok(())
    }

    /// Whether a stage must still be computed although its result is there. A process that was lost has not done so.
    fn is_forced(&self, stage: usize) -> bool {
        self.order.forced[stage] && !self.facts[stage].computed
    }

    fn job(&self, stage: usize, share: &Share) -> Result<Job, String> {
        let spec = &self.order.plan.stages[stage].spec;
        let keys = self.facts[stage].keys.as_ref().ok_or("its key is not known")?;
        Ok(Job {
            name: spec.name.clone(),
            kind: spec.kind.describe().kind.to_owned(),
            params: spec.params.clone(),
            inputs: self.inputs(stage)?,
            seed: spec.seed,
            key: keys.key,
            lineage: keys.lineage,
            manifest: keys.manifest.clone(),
            threads: (share.cpus / share.ranks).max(1),
            ranks: share.ranks,
            deadline_seconds: spec.deadline.map_or(opdflow_api::rank::DEADLINE_SECONDS, |seconds| seconds as f64),
            // Each process sees one GPU, and that under the number 0.
            device: if share.gpus.is_empty() { "cpu" } else { "cuda:0" }.to_owned(),
            environment: spec.kind.environment(&spec.params).map_err(|bug| bug.to_string())?,
            folder: spec.folder.clone(),
            store: self.order.store.root().to_owned(),
            checkpoint_seconds: self.order.checkpoint_seconds,
            force: self.is_forced(stage),
            program: crate::PROGRAM.to_owned(),
            doubts: self.order.doubts.get(stage).cloned().unwrap_or_default(),
            samples: None,
            note: crate::plan::notes(&self.order.plan.stages[stage]),
        })
    }

    /// A running stage said something.
    fn hear(&mut self, stage: usize, event: Event) {
        if let Event::Warning(warning) = event {
            return self.warned(stage, &warning);
        }
        let name = self.name(stage);
        let Some(run) = self.running.get_mut(&stage) else { return };
        let stage = name;
        let heard = match event {
            Event::Waiting { pid, host, note } => RunEvent::Waits { stage, pid, host, note },
            Event::Started { step } => RunEvent::Begun { stage, step },
            Event::Progress { step, total, note } => RunEvent::Progress { stage, step, total, note },
            Event::Ranks { ranks } => RunEvent::Ranks { stage, ranks },
            Event::Metric { step, name, value } => {
                RunEvent::Metric { stage, step, name, value: Some(value).filter(|v| v.is_finite()) }
            }
            Event::Checkpointed { step } => RunEvent::Checkpointed { stage, step },
            Event::Said { text } => RunEvent::Said { stage, text },
            Event::Warning(_) => return,
            // What an ending means is decided when the process has ended.
            Event::Published { found, process_cpu_seconds, .. } => {
                run.cpu_seconds = process_cpu_seconds;
                return run.published = Some(found);
            }
            Event::Stopped { step, why } => return run.stopped_at = Some((step, why)),
            Event::Failed { class, message } => return run.failure = Some((class, message)),
        };
        self.say(heard);
    }

    /// A cluster has news of a stage's job. What the stage takes counts from when it has begun, not from the queue on.
    fn job_news(&mut self, stage: usize, news: JobNews) {
        let Some(run) = self.running.get_mut(&stage) else { return };
        if news.host.is_some() {
            run.started = Instant::now();
        }
        let JobNews { job, host, text } = news;
        self.say(RunEvent::Job { stage: self.name(stage), job, host, text });
    }

    /// A running stage warns. A strict run asks it to end at a checkpoint, so that nothing is lost.
    fn warned(&mut self, stage: usize, warning: &Warning) {
        let known = self.order.doubts.get(stage).is_some_and(|doubts| doubts.contains(warning));
        let objection = self.objection(std::slice::from_ref(warning)).filter(|_| !known);
        self.remember(stage, std::slice::from_ref(warning));
        if let (Some(run), Some(objection)) = (self.running.get_mut(&stage), objection)
            && run.objection.is_none()
        {
            run.objection = Some(objection);
            run.process.stop();
        }
    }

    /// Tells warnings, each once, and again when it holds more often.
    fn remember(&mut self, stage: usize, warnings: &[Warning]) {
        for warning in warnings {
            let (changed, new) = gather(&mut self.facts[stage].warned, warning);
            if changed {
                self.say(RunEvent::Warning { stage: self.name(stage), warning: warning.clone(), again: !new });
            }
        }
    }

    /// Why a strict run has none of a result with these warnings.
    fn objection(&self, warnings: &[Warning]) -> Option<String> {
        let first = warnings.first().filter(|_| self.order.strict)?;
        let help = "without `--strict` it is a warning, and the work done so far is used";
        Some(format!("{first}; `--strict` takes warnings for errors\nhelp: {help}"))
    }

    /// The process of a stage is no more.
    fn end(&mut self, stage: usize, end: &End) -> Result<()> {
        let Some(run) = self.running.remove(&stage) else { return Ok(()) };
        self.order.slots.give(run.share);
        // Others of this lineage were held back; the result may be theirs too.
        self.forget_lookups(stage);
        if let Some(objection) = run.objection {
            let own = run.failure.map(|(_, message)| format!("\nit also failed: {message}")).unwrap_or_default();
            return self.fail(stage, FaultClass::User, objection + &own);
        }
        let fate = fate::of(end, run.published.is_some(), run.failure, self.stopping != Stopping::No);
        match fate {
            Fate::Published => {
                self.finish(
                    stage,
                    run.published.unwrap_or(false),
                    run.started.elapsed().as_secs_f64(),
                    run.cpu_seconds,
                )?;
                self.compare(stage, &run.began);
                Ok(())
            }
            Fate::Stopped => {
                let (step, why) = run.stopped_at.unwrap_or_default();
                self.say(RunEvent::Stopped { stage: self.name(stage), step: Some(step).filter(|s| *s > 0), why });
                self.apply(stage, Move::Stop)
            }
            Fate::Failed(FaultClass::Machine, message) => self.lost(stage, message),
            Fate::Failed(class, message) => self.fail(stage, class, message),
        }
    }

    fn forget_lookups(&mut self, ended: usize) {
        let lineage = self.lineage(ended);
        let twins: Vec<_> = self.board.all(State::Ready).filter(|s| self.lineage(*s) == lineage).collect();
        twins.into_iter().for_each(|t| self.facts[t].missing = false);
    }

    fn finish(&mut self, stage: usize, found: bool, seconds: f64, cpu_seconds: Option<f64>) -> Result<()> {
        let Some(key) = self.facts[stage].keys.as_ref().map(|k| k.key) else {
            bail!("stage {stage} ended without a key")
        };
        match self.order.store.action(&key) {
            Ok(Some(record)) => {
                let (outputs, warnings) = (digests_of(&record), warnings_of(&record));
                // Found elsewhere, a result comes with warnings that its own process did not give.
                self.remember(stage, &warnings);
                if let Some(objection) = self.objection(&warnings) {
                    return self.fail(stage, FaultClass::User, objection);
                }
                self.facts[stage].record = Some(record);
                self.facts[stage].computed = true;
                self.apply(stage, Move::Finish)?;
                self.say(RunEvent::Done { stage: self.name(stage), seconds, cpu_seconds, found, outputs });
                Ok(())
            }
            Ok(None) => {
                self.lost(stage, "its process ended well, but the store has no record of its result".to_owned())
            }
            Err(error) => self.lost(stage, error.to_string()),
        }
    }

    /// Says so if a stage that was computed once more gave something else than the first time.
    fn compare(&mut self, stage: usize, began: &str) {
        let Some(key) = self.facts[stage].keys.as_ref().map(|k| k.key).filter(|_| self.order.forced[stage]) else {
            return;
        };
        let store = self.order.store;
        let attempts = store.attempts(&key).unwrap_or_default();
        if let Some((n, other)) = attempts.iter().find(|(_, record)| record.finished.as_str() >= began) {
            let name = self.name(stage);
            let first = store.action(&key).ok().flatten();
            let apart = first.and_then(|first| difference::differences(store, &first, other).ok()).unwrap_or_default();
            let apart = difference::summary(&apart);
            let text = format!(
                "`{name}` gave another result than the first time. The first stays in use; the new one is kept as attempt {n} ({apart})"
            );
            self.say(RunEvent::Warned { text });
        }
    }

    /// The machine failed a stage: what it read was damaged, or its process is gone. Another try may help.
    fn lost(&mut self, stage: usize, message: String) -> Result<()> {
        if self.stopping == Stopping::No {
            let spoiled = self.spoiled_inputs(stage);
            if !spoiled.is_empty() && spoiled.iter().all(|(u, _)| self.facts[*u].damages < RETRIES) {
                self.requeue(stage)?;
                for (upstream, damage) in spoiled {
                    self.facts[upstream].damages += 1;
                    self.facts[upstream].record = None;
                    self.facts[upstream].missing = false;
                    self.apply(upstream, Move::Revoke)?;
                    self.say(RunEvent::Damaged { stage: self.name(upstream), message: damage });
                }
                return Ok(());
            }
            if self.facts[stage].losses < RETRIES {
                self.facts[stage].losses += 1;
                self.say(RunEvent::Retried { stage: self.name(stage), message });
                return self.requeue(stage);
            }
        }
        self.fail(stage, FaultClass::Machine, message)
    }

    fn requeue(&mut self, stage: usize) -> Result<()> {
        self.apply(stage, Move::Requeue)
    }

    /// The upstream stages whose results turned out to be damaged. The process that read them has set the damaged
    /// blobs aside, so a look at sizes is enough.
    fn spoiled_inputs(&self, stage: usize) -> Vec<(usize, String)> {
        let upstream = self.order.plan.upstream(stage).into_iter();
        let damage = |u: usize| lookup::damage(self.order.store, self.facts[u].record.as_ref()?, Care::Sizes);
        upstream.filter(|u| self.board.state(*u).provides()).filter_map(|u| Some((u, damage(u)?))).collect()
    }

    fn fail(&mut self, stage: usize, class: FaultClass, message: String) -> Result<()> {
        self.say(RunEvent::Failed { stage: self.name(stage), class, message });
        self.apply(stage, Move::Fail)?;
        if !self.order.keep_going && self.stopping == Stopping::No {
            self.ask_all_to_stop()?;
        }
        Ok(())
    }

    /// The first time: everything checkpoints and ends. The second time: everything ends.
    fn interrupt(&mut self) -> Result<()> {
        if self.stopping == Stopping::No {
            self.say(RunEvent::Stopping { kill: false });
            return self.ask_all_to_stop();
        }
        self.stopping = Stopping::Killed;
        self.say(RunEvent::Stopping { kill: true });
        self.running.values().for_each(|run| run.process.kill());
        Ok(())
    }

    fn ask_all_to_stop(&mut self) -> Result<()> {
        self.stopping = Stopping::Asked;
        for stage in 0..self.facts.len() {
            if matches!(self.board.state(stage), State::Ready | State::Waiting) {
                self.say(RunEvent::Stopped { stage: self.name(stage), step: None, why: None });
                self.apply(stage, Move::Stop)?;
            }
        }
        self.running.values().for_each(|run| run.process.stop());
        Ok(())
    }

    /// Makes a move, and tells what it means for others. A stage that becomes ready by it is looked up afresh,
    /// unless it only waits for a new process.
    fn apply(&mut self, stage: usize, m: Move) -> Result<()> {
        let changes = self.board.apply(stage, m)?;
        for (changed, state) in changes {
            match state {
                State::Ready | State::Waiting => {
                    self.facts[changed].missing = m == Move::Requeue && state == State::Ready
                }
                State::Blocked { by } => self.say(RunEvent::Blocked { stage: self.name(changed), by: self.name(by) }),
                // The one that was asked to stop has been told of already.
                State::Stopped if changed != stage => {
                    self.say(RunEvent::Stopped { stage: self.name(changed), step: None, why: None })
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn pass_warnings(&mut self) {
        for warning in self.order.store.warnings() {
            self.say(RunEvent::Warned { text: warning.to_string() });
        }
    }

    fn ended(self) -> Ended {
        let any = |f: fn(&State) -> bool| self.board.states().iter().any(f);
        let ending = if self.stopping == Stopping::Killed {
            Ending::Killed
        } else if any(|s| *s == State::Failed) {
            Ending::Failed
        } else if any(|s| *s == State::Stopped) {
            Ending::Stopped
        } else {
            Ending::Complete
        };
        Ended { ending, records: self.facts.into_iter().map(|f| f.record).collect() }
    }
}

fn digests_of(record: &ActionRecord) -> BTreeMap<String, Digest> {
    record.outputs.iter().map(|(port, output)| (port.clone(), output.object.digest)).collect()
}
