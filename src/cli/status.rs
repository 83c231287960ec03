//! `opdflow status`: how a run is doing, or how it ended, from its log.

use super::{Exit, Failure, Session, args};
use crate::render::{beside, duration, left};
use crate::report::{StageSummary, Standing, Summary};
use crate::runlog::{self, RunFolder};
use serde_json::{Value, json};

pub(super) fn run(session: &Session, args: &args::Status) -> Result<Exit, Failure> {
    let usage = |e: anyhow::Error| Failure::Usage(format!("{e:#}"));
    let folder = super::find_run(&args.run_dir, args.run.as_deref())?;
    // Asked before the log is read: a run that ends in between is then shown as ended, never as dead.
    let alive = runlog::is_alive(&folder);
    let record = runlog::read(&folder).map_err(usage)?;
    let summary = Summary::of(&record.lines);
    if session.json {
        session.print(&to_json(&summary, &folder, alive).to_string());
    } else {
        session.print(&to_text(&summary, &folder, alive));
    }
    Ok(Exit::Done)
}

/// How the run as a whole stands, in one word.
fn state(summary: &Summary, alive: bool) -> &'static str {
    match summary.ended {
        Some((true, _)) => "complete",
        Some((false, _)) if summary.count(Standing::Failed) > 0 => "failed",
        Some((false, _)) => "stopped",
        None if alive => "running",
        None => "died",
    }
}

fn seconds(summary: &Summary, alive: bool) -> f64 {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(summary.last, |d| d.as_secs_f64());
    let last = if alive { now } else { summary.last };
    summary.ended.map_or((last - summary.began).max(0.0), |(_, seconds)| seconds)
}

/// What a stage's process was last heard of counts as its time while it runs.
fn stage_seconds(stage: &StageSummary, summary: &Summary) -> f64 {
    match (stage.state, stage.began) {
        (Standing::Running, Some(began)) => (summary.last - began).max(0.0),
        _ => stage.seconds,
    }
}

fn to_json(summary: &Summary, folder: &RunFolder, alive: bool) -> Value {
    let stage = |s: &StageSummary| {
        let metrics: serde_json::Map<_, _> =
            s.metrics.iter().map(|(n, (step, v))| (n.clone(), json!({"step": step, "value": v}))).collect();
        json!({"state": s.state.word(), "key": s.key, "step": s.step, "total": s.total, "resumed_at": s.resumed_at,
            "seconds": stage_seconds(s, summary), "seconds_left": s.left(summary.last), "note": s.note, "metrics": metrics, "outputs": s.outputs, "message": s.message, "warnings": s.warnings})
    };
    let stages: serde_json::Map<_, _> = summary.stages.iter().map(|s| (s.name.clone(), stage(s))).collect();
    json!({"run": folder.name(), "folder": folder.path().display().to_string(), "recipe": summary.started.recipe,
        "state": state(summary, alive), "alive": alive, "pid": summary.started.pid, "seed": summary.started.seed,
        "ok": summary.ended.map(|(ok, _)| ok), "seconds": seconds(summary, alive), "stages": stages})
}

fn to_text(summary: &Summary, folder: &RunFolder, alive: bool) -> String {
    let state = match state(summary, alive) {
        "running" => format!("running (process {})", summary.started.pid),
        "died" => "died without a last word; run its command again to go on".to_owned(),
        "stopped" => "stopped; run its command again to go on".to_owned(),
        word => word.to_owned(),
    };
    let mut text = format!("{}  {state}  {}", folder.name(), duration(seconds(summary, alive)));
    let width = summary.stages.iter().map(|s| s.name.chars().count()).max().unwrap_or(0);
    for stage in &summary.stages {
        text += "\n";
        text += format!("  {:width$}  {}", stage.name, line(stage, summary)).trim_end();
        for warning in &stage.warnings {
            text += &format!("\n  {:width$}  warning  {warning}", "");
        }
    }
    text
}

fn line(stage: &StageSummary, summary: &Summary) -> String {
    let mut parts = vec![format!("{:8}", stage.state.word())];
    if stage.total > 0 {
        parts.push(format!("{}/{}", stage.step, stage.total));
    }
    if stage.began.is_some() {
        parts.push(duration(stage_seconds(stage, summary)));
    }
    parts.extend(
        [left(stage, summary.last), beside(stage)]
            .map(|s| s.trim_start().to_owned())
            .into_iter()
            .filter(|s| !s.is_empty()),
    );
    if let Some(message) = &stage.message {
        parts.push(message.lines().next().unwrap_or_default().to_owned());
    }
    parts.join("  ")
}
