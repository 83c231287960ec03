//! Plain lines, for logs and pipes: one for each change, and now and then one for progress.

use super::words;
use super::{Paint, Render};
use crate::report::{StageSummary, Summary};
use crate::runlog::RunEvent;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Progress lines of one stage are at least this far apart.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Writes lines to the standard error.
pub struct Plain {
    paint: Paint,
    shown: BTreeMap<String, Instant>,
    waits: BTreeMap<String, Instant>,
}

impl Plain {
    /// A plain screen.
    #[must_use]
    pub fn new(paint: Paint) -> Self {
        Self { paint, shown: BTreeMap::new(), waits: BTreeMap::new() }
    }
}

fn is_due(times: &mut BTreeMap<String, Instant>, stage: &str) -> bool {
    let due = times.get(stage).is_none_or(|t| t.elapsed() >= PROGRESS_EVERY);
    if due {
        times.insert(stage.to_owned(), Instant::now());
    }
    due
}

impl Render for Plain {
    fn show(&mut self, event: &RunEvent, summary: &Summary) {
        let text = match event {
            RunEvent::Started { stage, threads, device, .. } => {
                // The first progress line comes a while after the start, not with it.
                self.shown.insert(stage.clone(), Instant::now());
                let plural = if *threads == 1 { "" } else { "s" };
                let (stage, device) = (words::name(stage), words::name(device));
                Some(format!("{:>8} {stage}  ({device}, {threads} thread{plural})", "start"))
            }
            RunEvent::Progress { stage, .. } if is_due(&mut self.shown, stage) => {
                summary.stage(stage).map(|s| progress(s, summary.last))
            }
            RunEvent::Waits { stage, .. } if !is_due(&mut self.waits, stage) => None,
            _ => words::line(event, summary, self.paint),
        };
        if let Some(text) = text {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
    fn finish(&mut self) {}
}

fn progress(stage: &StageSummary, now: f64) -> String {
    format!(
        "{:>8} {}  {} of {}{}{}{}",
        "",
        words::name(&stage.name),
        stage.step,
        stage.total,
        words::beside(stage),
        words::of_ranks(stage),
        words::left(stage, now)
    )
}
