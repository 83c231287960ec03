//! What shows a run.

use crate::report::Summary;
use crate::runlog::RunEvent;

/// Shows events.
pub trait Render {
    /// Shows `event`, which `summary` has taken in already.
    fn show(&mut self, event: &RunEvent, summary: &Summary);
    /// Leaves the screen to others.
    fn finish(&mut self);
}
