//! A run on the screen, which is the standard error. Results go to the standard output and are no matter of this
//! module.

mod bars;
mod fit;
mod numbers;
pub mod page;
mod paint;
mod plain;
mod shows;
mod words;

pub use bars::keep_alive;
pub use fit::fit;
pub use numbers::{bytes, duration, metric, operations};
pub use paint::{Paint, Tone};
pub use shows::Render;
pub use words::{beside, left, name, of_ranks, quoted};

use crate::report::Summary;
use crate::runlog::RunEvent;

/// How much to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Failures and warnings only.
    Quiet,
    /// Lines.
    Plain,
    /// Lines that move, for what is at work.
    Moving,
}

impl Mode {
    /// As the user asked for it, on a screen on which lines can move or not.
    #[must_use]
    pub const fn of(quiet: bool, plain: bool, moving: bool) -> Self {
        match (quiet, plain || !moving) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Plain,
            (false, false) => Self::Moving,
        }
    }
}

/// The screen for `mode`, in colour if `colour`.
#[must_use]
pub fn screen(mode: Mode, colour: bool) -> Box<dyn Render> {
    let paint = Paint::new(colour);
    match mode {
        Mode::Quiet => Box::new(Quiet(paint)),
        Mode::Moving => Box::new(bars::Bars::new(paint)),
        Mode::Plain => Box::new(plain::Plain::new(paint)),
    }
}

struct Quiet(Paint);

impl Render for Quiet {
    fn show(&mut self, event: &RunEvent, summary: &Summary) {
        use std::io::Write as _;
        let matters = matches!(
            event,
            RunEvent::Failed { .. } | RunEvent::Warned { .. } | RunEvent::Warning { .. } | RunEvent::Damaged { .. }
        );
        if let Some(text) = words::line(event, summary, self.0).filter(|_| matters) {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
    fn finish(&mut self) {}
}
