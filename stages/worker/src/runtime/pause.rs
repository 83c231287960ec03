//! Work that stops for a while, for a server is away or may not be asked any more.

use opdflow_api::{Fault, StageContext};

/// The error of a stage that stops for a while, for a server is away, or no more may be asked of it. What is done is kept first.
#[derive(Debug)]
pub struct Paused {
    /// Why.
    pub words: String,
    /// The fault that it ends with after that; without one the stage counts as stopped, and goes on when it is started again.
    pub fault: Option<Fault>,
}

impl std::fmt::Display for Paused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Paused {}

/// Why the work pauses, if that is what the error says.
#[must_use]
pub fn paused(error: &anyhow::Error) -> Option<&Paused> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// What a stage ends with that pauses, once everything is kept.
#[must_use]
pub fn ended(pause: &Paused, step: u64, context: &StageContext) -> anyhow::Error {
    match &pause.fault {
        Some(fault) => fault.clone().into(),
        None if context.stop_flag().raised() => context.stopped(step),
        None => context.stopped_for(step, &pause.words),
    }
}
