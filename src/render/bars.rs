//! A terminal: one moving line for each stage that runs, and lines that stay for what is over.

use super::words;
use super::{Paint, Render};
use crate::report::{Standing, Summary, job_words};
use crate::runlog::{RunEvent, process};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;

/// Draws on the standard error.
pub struct Bars {
    paint: Paint,
    all: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
}

impl Bars {
    /// An empty screen.
    #[must_use]
    pub fn new(paint: Paint) -> Self {
        Self {
            paint,
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
            bars: BTreeMap::new(),
        }
    }

    fn begin(&mut self, stage: &str, summary: &Summary) {
        let width = summary.stages.iter().map(|s| s.name.chars().count()).max().unwrap_or(0).min(32);
        let bar = self.all.add(ProgressBar::no_length());
        bar.set_style(style(&format!("{{prefix:>{width}}} {{spinner}} {{wide_msg}}")));
        bar.set_prefix(words::name(stage).into_owned());
        bar.set_message("starting");
        keep_alive(&bar);
        self.bars.insert(stage.to_owned(), bar);
    }

    fn update(&self, stage: &str, summary: &Summary) {
        let (Some(bar), Some(known)) = (self.bars.get(stage), summary.stage(stage)) else { return };
        if known.total > 0 && bar.length() != Some(known.total) {
            let width = summary.stages.iter().map(|s| s.name.chars().count()).max().unwrap_or(0).min(32);
            bar.set_style(style(&format!("{{prefix:>{width}}} [{{bar:24}}] {{pos}}/{{len}} {{wide_msg}}")));
            bar.set_length(known.total);
        }
        bar.set_position(known.step);
        // The time first: it keeps its place while the words behind it change their length. What finds no place is cut off.
        let parts =
            [words::left(known, summary.last), words::beside(known), words::of_ranks(known), words::course(known)];
        bar.set_message(parts.concat().trim_start().to_owned());
    }

    fn end(&mut self, stage: &str) {
        if let Some(bar) = self.bars.remove(stage) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }

    /// A line that stays, above the moving ones.
    fn keep(&self, text: &str) {
        // Without a moving line there is nothing to move out of the way, and indicatif would draw nothing.
        if self.bars.is_empty() || self.all.is_hidden() || self.all.println(text).is_err() {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

/// Moves the line now and then: a stage that says nothing for a while still looks alive. Without a thread for it, which
/// indicatif's own way would not survive, it stands still between two events.
pub fn keep_alive(bar: &ProgressBar) {
    let moved = bar.clone();
    let tick = move || {
        while !moved.is_finished() {
            moved.tick();
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
    };
    let _ = std::thread::Builder::new().name("screen".to_owned()).spawn(tick);
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()).progress_chars("=> ")
}

impl Render for Bars {
    fn show(&mut self, event: &RunEvent, summary: &Summary) {
        if let Some(stage) = event.stage()
            && summary.stage(stage).is_some_and(|s| s.state != Standing::Running)
        {
            self.end(stage);
        }
        match event {
            RunEvent::Started { stage, .. } => self.begin(stage, summary),
            RunEvent::Progress { stage, .. } | RunEvent::Metric { stage, .. } | RunEvent::Ranks { stage, .. } => {
                self.update(stage, summary)
            }
            RunEvent::Waits { stage, pid, host, note } => {
                if let Some(bar) = self.bars.get(stage) {
                    let who = process(*pid, host);
                    bar.set_message(format!("another run ({who}) computes it: {}", words::name(note)));
                }
            }
            RunEvent::Job { stage, job, text, .. } if self.bars.contains_key(stage) => {
                self.bars[stage].set_message(words::name(&job_words(job, text)).into_owned());
            }
            _ => {
                if let Some(text) = words::line(event, summary, self.paint) {
                    self.keep(&text);
                }
            }
        }
    }
    fn finish(&mut self) {
        let _ = self.all.clear();
    }
}
