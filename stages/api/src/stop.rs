//! The wish to stop, shared between the signal handler and the stage's loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that a signal, a time limit or `opdflow stop` raises and a stage polls each step.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// The flag's own cell, for a signal handler.
    #[must_use]
    pub fn cell(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
    /// Raises the flag.
    pub fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
    /// Whether it is raised.
    #[must_use]
    pub fn raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The error that a stage returns to say that it stopped: because it was asked to, or for a reason of its own.
#[derive(Debug)]
pub(crate) struct StoppedAt(pub u64, pub Option<String>);

impl std::fmt::Display for StoppedAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped at step {}", self.0)
    }
}

impl std::error::Error for StoppedAt {}
