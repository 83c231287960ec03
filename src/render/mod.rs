//! A run on the screen, which is the standard error. Results go to the standard output and are no matter of this
//! module.

mod bars;
mod numbers;
mod paint;
mod plain;
mod words;

pub use numbers::{bytes, duration, metric, operations};
pub use paint::{Paint, Tone};
pub use words::{beside, left};

use crate::report::Summary;
use crate::runlog::RunEvent;
use std::io::IsTerminal as _;

/// Shows events.
pub trait Render {
    /// Shows `event`, which `summary` has taken in already.
    fn show(&mut self, event: &RunEvent, summary: &Summary);
    /// Leaves the screen to others.
    fn finish(&mut self);
}

/// How much to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Failures and warnings only.
    Quiet,
    /// Lines.
    Plain,
    /// Moving lines on a terminal, else lines.
    Auto,
}

impl Mode {
    /// As the user asked for it.
    #[must_use]
    pub const fn of(quiet: bool, plain: bool) -> Self {
        match (quiet, plain) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Plain,
            (false, false) => Self::Auto,
        }
    }
}

/// The screen for `mode`, in colour if `colour`.
#[must_use]
pub fn screen(mode: Mode, colour: bool) -> Box<dyn Render> {
    let paint = Paint::new(colour);
    match mode {
        Mode::Quiet => Box::new(Quiet(paint)),
        Mode::Auto if std::io::stderr().is_terminal() => Box::new(bars::Bars::new(paint)),
        Mode::Auto | Mode::Plain => Box::new(plain::Plain::new(paint)),
    }
}

struct Quiet(Paint);

impl Render for Quiet {
    fn show(&mut self, event: &RunEvent, summary: &Summary) {
        use std::io::Write as _;
        let matters = matches!(event, RunEvent::Failed { .. } | RunEvent::Warned { .. } | RunEvent::Damaged { .. });
        if let Some(text) = words::line(event, summary, self.0).filter(|_| matters) {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
    fn finish(&mut self) {}
}
