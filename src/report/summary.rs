//! What a run came to, stage by stage: its events folded into one view. `run --json` prints it from the events as
//! they come, `status` from the run log.

use super::{Pace, Trace};
use crate::runlog::{Line, RunEvent, RunStarted, process};
use opdflow_api::cache::Digest;
use opdflow_api::warning::gather;
use opdflow_api::{FaultClass, RankState, Warning};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Its first event.
    pub started: RunStarted,
    /// When that was: seconds since 1970.
    pub began: f64,
    /// The time of its newest event.
    pub last: f64,
    /// Its stages, in the order of the plan.
    pub stages: Vec<StageSummary>,
    /// Whether it came to a good end, and after how many seconds.
    pub ended: Option<(bool, f64)>,
}

/// A stage of a run.
#[derive(Clone, Debug, Default)]
pub struct StageSummary {
    /// Its name.
    pub name: String,
    /// Where it stands, in one word.
    pub state: Standing,
    /// Its key, once it is known.
    pub key: Option<Digest>,
    /// When its process was started: seconds since 1970.
    pub began: Option<f64>,
    /// Seconds that it took in this run.
    pub seconds: f64,
    /// CPU seconds of its process in this run, once they are known.
    pub cpu_seconds: Option<f64>,
    /// What a hit had cost when it was computed.
    pub saved_seconds: f64,
    /// Steps done.
    pub step: u64,
    /// Steps in all, or 0 if nobody knows.
    pub total: u64,
    /// The step of the checkpoint that it went on from.
    pub resumed_at: u64,
    /// What it last said beside its progress, such as `reward 0.43`.
    pub note: String,
    /// How far each of its processes is, if it has several.
    pub ranks: Vec<RankState>,
    /// How fast it goes.
    pub pace: Pace,
    /// The newest value of each metric, and its step.
    pub metrics: BTreeMap<String, (u64, Option<f64>)>,
    /// The way of each metric so far.
    pub traces: BTreeMap<String, Trace>,
    /// Digests of its outputs by port.
    pub outputs: BTreeMap<String, Digest>,
    /// What went wrong, if something did.
    pub message: Option<String>,
    /// Whose fault it was, if it failed.
    pub class: Option<FaultClass>,
    /// Its newest process.
    pub pid: Option<u32>,
    /// Its newest job, if a cluster runs it.
    pub job: Option<String>,
    /// What it was warned of, each once with its count.
    pub warnings: Vec<Warning>,
}

/// Where a stage stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Not begun.
    #[default]
    Waiting,
    /// At work.
    Running,
    /// The store had its result, or got it from another process meanwhile.
    Hit,
    /// Computed from the start.
    Run,
    /// Computed from a checkpoint on.
    Resumed,
    /// Stopped as asked.
    Stopped,
    /// Failed.
    Failed,
    /// Kept from running by a failed stage.
    Blocked,
}

impl Standing {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Hit => "hit",
            Self::Run => "run",
            Self::Resumed => "resumed",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
        }
    }
}

impl Summary {
    /// The summary of a whole log.
    #[must_use]
    pub fn of(lines: &[Line]) -> Self {
        let mut summary = Self::default();
        lines.iter().for_each(|line| summary.take(line.at, &line.event));
        summary
    }

    /// Takes in the next event, which happened at `at`.
    pub fn take(&mut self, at: f64, event: &RunEvent) {
        self.last = at;
        match event {
            RunEvent::RunStarted(started) => {
                self.began = at;
                let fresh = |s: &crate::runlog::StageLine| StageSummary { name: s.name.clone(), ..Default::default() };
                self.stages = started.stages.iter().map(fresh).collect();
                self.started = started.clone();
            }
            RunEvent::RunEnded { ok, seconds } => self.ended = Some((*ok, *seconds)),
            _ => {
                if let Some(stage) = event.stage().and_then(|name| self.stages.iter_mut().find(|s| s.name == name)) {
                    stage.take(at, event);
                }
            }
        }
    }

    /// The stage of this name.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<&StageSummary> {
        self.stages.iter().find(|s| s.name == name)
    }

    /// How many stages stand so.
    #[must_use]
    pub fn count(&self, standing: Standing) -> usize {
        self.stages.iter().filter(|s| s.state == standing).count()
    }

    /// Whether stages failed, and each of them by the machine: its disk, its memory, its processes.
    #[must_use]
    pub fn by_machine(&self) -> bool {
        let mut failed = self.stages.iter().filter(|s| s.state == Standing::Failed).peekable();
        let machine = |class| matches!(class, Some(FaultClass::Machine | FaultClass::OutOfMemory));
        failed.peek().is_some() && failed.all(|s| machine(s.class))
    }

    /// The one object that `run --json` prints.
    #[must_use]
    pub fn to_json(&self, run: &str) -> Value {
        let stage = |s: &StageSummary| json!({"key": s.key, "verdict": s.state.word(), "seconds": round(s.seconds), "cpu_seconds": s.cpu_seconds.map(round), "outputs": s.outputs, "message": s.message, "warnings": s.warnings});
        let stages: serde_json::Map<_, _> = self.stages.iter().map(|s| (s.name.clone(), stage(s))).collect();
        let (ok, seconds) = self.ended.unwrap_or((false, self.last - self.began));
        json!({"recipe": self.started.recipe, "run": run, "seconds": round(seconds), "ok": ok, "stages": stages})
    }
}

impl StageSummary {
    /// Seconds that it still needs, counted from `now`; nothing if that cannot be told, or if it does not run.
    #[must_use]
    pub fn left(&self, now: f64) -> Option<f64> {
        self.pace.left(self.total, now).filter(|_| self.state == Standing::Running && self.step < self.total)
    }

    /// The metric that tells most of a training.
    #[must_use]
    pub fn headline(&self) -> Option<&str> {
        let wanted = ["validation", "reward", "loss"].into_iter().find(|name| self.traces.contains_key(*name));
        wanted.or_else(|| self.traces.keys().next().map(String::as_str))
    }

    fn take(&mut self, at: f64, event: &RunEvent) {
        match event {
            RunEvent::Keyed { key, .. } => self.key = Some(*key),
            RunEvent::Hit { saved_seconds, outputs, .. } => {
                (self.state, self.saved_seconds, self.outputs) = (Standing::Hit, *saved_seconds, outputs.clone());
            }
            RunEvent::Started { pid, .. } => {
                (self.state, self.began, self.resumed_at) = (Standing::Running, Some(at), 0);
                (self.pid, self.job) = (Some(*pid).filter(|pid| *pid > 0), None);
                self.pace.begin(at, 0);
            }
            RunEvent::Job { job, host, text, .. } => {
                self.job = Some(job.clone()).filter(|job| !job.is_empty());
                self.message = Some(job_words(job, text));
                if host.is_some() {
                    self.began = Some(at);
                }
            }
            RunEvent::Waits { pid, host, note, .. } => {
                self.message = Some(format!("another run ({}) computes it: {note}", process(*pid, host)))
            }
            RunEvent::Begun { step, .. } => {
                (self.resumed_at, self.step, self.message) = (*step, *step, None);
                self.ranks.clear();
                self.pace.begin(at, *step);
            }
            RunEvent::Progress { step, total, note, .. } => {
                (self.step, self.total, self.note) = (*step, *total, note.clone());
                self.pace.reach(at, *step);
            }
            RunEvent::Ranks { ranks, .. } => self.ranks.clone_from(ranks),
            RunEvent::Metric { step, name, value, .. } => {
                self.metrics.insert(name.clone(), (*step, *value));
                self.traces.entry(name.clone()).or_default().add(value.unwrap_or(f64::NAN));
            }
            RunEvent::Done { seconds, cpu_seconds, found, outputs, .. } => {
                (self.seconds, self.outputs, self.message) = (*seconds, outputs.clone(), None);
                self.cpu_seconds = *cpu_seconds;
                self.state = match (found, self.resumed_at) {
                    (true, _) => Standing::Hit,
                    (false, 0) => Standing::Run,
                    (false, _) => Standing::Resumed,
                };
            }
            RunEvent::Warning { warning, .. } => drop(gather(&mut self.warnings, warning)),
            RunEvent::Stopped { .. } => self.end(at, Standing::Stopped, None),
            RunEvent::Failed { class, message, .. } => {
                self.class = Some(*class);
                self.end(at, Standing::Failed, Some(message.clone()));
            }
            RunEvent::Blocked { by, .. } => self.end(at, Standing::Blocked, Some(format!("`{by}` failed"))),
            RunEvent::Retried { message, .. } | RunEvent::Damaged { message, .. } => {
                self.state = Standing::Waiting;
                self.message = Some(message.clone());
            }
            _ => {}
        }
    }

    fn end(&mut self, at: f64, state: Standing, message: Option<String>) {
        self.seconds = self.began.map_or(0.0, |began| (at - began).max(0.0));
        (self.state, self.message) = (state, message);
    }
}

/// What became of a job, with its number.
#[must_use]
pub fn job_words(job: &str, text: &str) -> String {
    if job.is_empty() { text.to_owned() } else { format!("job {job} {text}") }
}

/// To the millisecond.
fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runlog::StageLine;

    fn fold(events: &[RunEvent]) -> Summary {
        let stages = vec![StageLine { name: "a".into(), ..Default::default() }];
        let start = RunEvent::RunStarted(RunStarted { stages, ..Default::default() });
        let mut summary = Summary::default();
        for (at, event) in [start].iter().chain(events).enumerate() {
            summary.take(f64::from(u32::try_from(at).unwrap()), event);
        }
        summary
    }

    fn started() -> RunEvent {
        RunEvent::Started { stage: "a".into(), pid: 1, host: None, attempt: 1, threads: 1, device: "cpu".into() }
    }

    fn done(found: bool) -> RunEvent {
        RunEvent::Done { stage: "a".into(), seconds: 1.0, cpu_seconds: None, found, outputs: BTreeMap::new() }
    }

    #[test]
    fn a_verdict_says_how_the_result_came() {
        let begun = |step| RunEvent::Begun { stage: "a".into(), step };
        assert_eq!(fold(&[started(), begun(0), done(false)]).stages[0].state, Standing::Run);
        assert_eq!(fold(&[started(), begun(7), done(false)]).stages[0].state, Standing::Resumed);
        assert_eq!(fold(&[started(), done(true)]).stages[0].state, Standing::Hit);
        // The second process went on from nothing: what the first resumed from does not count.
        let lost = RunEvent::Retried { stage: "a".into(), message: "x".into() };
        assert_eq!(fold(&[started(), begun(7), lost, started(), begun(0), done(false)]).stages[0].state, Standing::Run);
    }

    #[test]
    fn a_run_that_died_shows_what_was_running() {
        let summary = fold(&[started()]);
        assert_eq!(summary.stages[0].state, Standing::Running);
        assert_eq!(summary.ended, None);
        assert_eq!(summary.to_json("r")["ok"], json!(false));
    }
}
