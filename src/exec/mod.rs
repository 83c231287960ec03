//! Where the processes of stages run.

mod local;
mod orphan;
mod ranks;
mod tool;

pub use local::Local;
pub use orphan::{Orphan, orphan};
pub use ranks::run_ranks;
pub use tool::run_tool;

use anyhow::Result;
use opdflow_api::{Event, Job};
use std::sync::mpsc::Sender;

/// Starts processes of stages. They report by messages; the last one of each process is [`Message::Ended`].
pub trait Executor {
    /// Starts `job`, which is stage number `stage`, on the GPU of this id if there is one.
    ///
    /// # Errors
    /// The process could not be started.
    fn start(&self, stage: usize, job: &Job, gpu: Option<&str>, inbox: &Sender<Message>) -> Result<Box<dyn Process>>;
}

/// A started process. It outlives this value, and the scheduler.
pub trait Process {
    /// Its number.
    fn id(&self) -> u32;
    /// Asks it to checkpoint and end.
    fn stop(&self);
    /// Ends it now.
    fn kill(&self);
}

/// What the scheduler hears.
#[derive(Debug)]
pub enum Message {
    /// A stage's process said something.
    Event(usize, Event),
    /// A stage's process is no more.
    Ended(usize, End),
    /// The user wants the run to stop.
    Interrupt,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody knows.
    Unknown(String),
}
