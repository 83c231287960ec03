//! `opdflow status`: how a run is doing, or how it ended, from its log.

use super::left::Left;
use crate::cli::{Exit, Failure, Session, args};
use crate::render::{beside, duration, left, name, of_ranks};
use crate::report::{StageSummary, Standing, Summary};
use crate::runlog::{self, Pulse, RunFolder};
use serde_json::{Value, json};

pub(crate) fn run(session: &Session, args: &args::Status) -> Result<Exit, Failure> {
    let usage = |e: anyhow::Error| Failure::Usage(format!("{e:#}"));
    let folder = crate::cli::find_run(&args.run_dir, args.run.as_deref())?;
    let (summary, own) = look(&folder).map_err(usage)?;
    let alive = own == runlog::Life::Lives;
    let left = if own == runlog::Life::Gone { Left::of(&summary, &folder) } else { Left::default() };
    let life = Life { alive, silent: own == runlog::Life::Silent, left };
    if session.json {
        session.print(&to_json(&summary, &folder, &life).to_string());
    } else {
        session.print(&to_text(&summary, &folder, &life));
    }
    Ok(Exit::Done)
}

/// What the log says of a run, and whether its process lives.
pub(crate) fn look(folder: &RunFolder) -> anyhow::Result<(Summary, runlog::Life)> {
    // Asked before the log is read: a run that ends in between is then shown as ended, never as dead.
    let alive = runlog::is_alive(folder);
    let summary = Summary::of(&runlog::read(folder)?.lines);
    if alive {
        return Ok((summary, runlog::Life::Lives));
    }
    if summary.ended.is_some() {
        return Ok((summary, runlog::Life::Gone));
    }
    // The lock may be one that only another host sees.
    let life = Pulse::of(folder, &summary.started).patient();
    Ok((Summary::of(&runlog::read(folder)?.lines), life))
}

/// Who of a run still works.
struct Life {
    /// The run's own process.
    alive: bool,
    /// It is another host's, and gives no sign of life here.
    silent: bool,
    /// What works on after its own process has died.
    left: Left,
}

impl Life {
    /// Whether a stage that the log has as running does run.
    fn works(&self, stage: &StageSummary) -> bool {
        self.alive || self.left.has(&stage.name)
    }
    /// How a stage stands, in one word.
    fn word(&self, stage: &StageSummary) -> &'static str {
        match stage.state {
            Standing::Running if self.left.is_unknown(&stage.name) => "unknown",
            Standing::Running if !self.works(stage) && !self.silent => "gone",
            state => state.word(),
        }
    }
}

/// How the run as a whole stands, in one word.
fn state(summary: &Summary, life: &Life) -> &'static str {
    match summary.ended {
        Some((true, _)) => "complete",
        Some((false, _)) if summary.count(Standing::Failed) > 0 => "failed",
        Some((false, _)) => "stopped",
        None if life.alive => "running",
        None if life.silent => "silent",
        None => "died",
    }
}

fn now(summary: &Summary) -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(summary.last, |d| d.as_secs_f64())
}

fn seconds(summary: &Summary, alive: bool) -> f64 {
    let last = if alive { now(summary) } else { summary.last };
    summary.ended.map_or((last - summary.began).max(0.0), |(_, seconds)| seconds)
}

/// What a stage's process was last heard of counts as its time while it runs; nobody hears of one whose run is gone.
fn stage_seconds(stage: &StageSummary, summary: &Summary, life: &Life) -> f64 {
    let last = if !life.alive && life.works(stage) { now(summary) } else { summary.last };
    match (stage.state, stage.began) {
        (Standing::Running, Some(began)) => (last - began).max(0.0),
        _ => stage.seconds,
    }
}

fn to_json(summary: &Summary, folder: &RunFolder, life: &Life) -> Value {
    let alive = life.alive;
    let stage = |s: &StageSummary| {
        let metrics: serde_json::Map<_, _> =
            s.metrics.iter().map(|(n, (step, v))| (n.clone(), json!({"step": step, "value": v}))).collect();
        let running = s.state == Standing::Running && life.works(s);
        json!({"state": life.word(s), "pid": s.pid.filter(|_| running), "job": s.job.as_ref().filter(|_| running), "key": s.key, "step": s.step, "total": s.total, "resumed_at": s.resumed_at,
            "seconds": stage_seconds(s, summary, life), "seconds_left": s.left(summary.last).filter(|_| alive), "note": s.note, "ranks": s.ranks, "metrics": metrics, "outputs": s.outputs, "message": s.message, "warnings": s.warnings})
    };
    let stages: serde_json::Map<_, _> = summary.stages.iter().map(|s| (s.name.clone(), stage(s))).collect();
    json!({"run": folder.name(), "folder": folder.path().display().to_string(), "recipe": summary.started.recipe,
        "state": state(summary, life), "alive": alive, "pid": summary.started.pid, "host": summary.started.host, "seed": summary.started.seed,
        "ok": summary.ended.map(|(ok, _)| ok), "seconds": seconds(summary, alive), "stages": stages})
}

fn to_text(summary: &Summary, folder: &RunFolder, life: &Life) -> String {
    let alive = life.alive;
    let state = match state(summary, life) {
        "running" => format!("running ({})", summary.started.process()),
        "silent" => format!(
            "silent: no sign of life from {}; if it has died, its command goes on when it is given again, after a wait",
            summary.started.process()
        ),
        "died" => life.left.died(summary),
        "stopped" => "stopped; run its command again to go on".to_owned(),
        word => word.to_owned(),
    };
    let mut text = format!("{}  {state}  {}", folder.name(), duration(seconds(summary, alive)));
    let width = summary.stages.iter().map(|s| name(&s.name).chars().count()).max().unwrap_or(0);
    for stage in &summary.stages {
        text += "\n";
        text += format!("  {:width$}  {}", name(&stage.name), line(stage, summary, life)).trim_end();
        for warning in &stage.warnings {
            text += &format!("\n  {:width$}  warning  {}", "", name(&warning.to_string()));
        }
    }
    text
}

fn line(stage: &StageSummary, summary: &Summary, life: &Life) -> String {
    let mut parts = vec![format!("{:8}", life.word(stage))];
    if stage.total > 0 {
        parts.push(format!("{}/{}", stage.step, stage.total));
    }
    if stage.began.is_some() {
        parts.push(duration(stage_seconds(stage, summary, life)));
    }
    parts.extend(
        [
            life.alive.then(|| left(stage, summary.last)),
            Some(beside(stage)),
            life.works(stage).then(|| of_ranks(stage)),
        ]
        .into_iter()
        .flatten()
        .map(|s| s.trim_start().to_owned())
        .filter(|s| !s.is_empty()),
    );
    if let Some(place) = life.left.place(&stage.name) {
        parts.push(format!("({place})"));
    }
    if let Some(message) = &stage.message {
        parts.push(name(message.lines().next().unwrap_or_default()).into_owned());
    }
    parts.join("  ")
}
