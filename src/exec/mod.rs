//! Where the processes of stages run.

mod launch;
mod local;
mod orphan;
mod ranks;
pub mod slurm;
mod tool;

pub use local::Local;
pub use orphan::{Orphan, orphan};
pub use ranks::run_ranks;
pub use tool::run_tool;

use anyhow::Result;
use opdflow_api::{Event, FaultClass, Job};
use std::sync::mpsc::Sender;

/// Starts processes of stages. They report by messages; the last one of each process is [`Message::Ended`].
pub trait Executor {
    /// Starts `job`, which is stage number `stage`, on the GPU of this id if there is one.
    ///
    /// # Errors
    /// The process could not be started.
    fn start(&self, stage: usize, job: &Job, gpu: Option<&str>, inbox: &Sender<Message>) -> Result<Box<dyn Process>>;

    /// How much it runs at once, beside what the slots say.
    fn capacity(&self) -> Capacity {
        Capacity { processes: usize::MAX, cpus: usize::MAX }
    }

    /// How the run log names what a stage of so many processes runs on, which has the GPUs of these ids.
    fn device(&self, gpus: Option<&str>, ranks: usize) -> String {
        match gpus {
            Some(ids) => format!("cuda:{ids}"),
            None if ranks > 1 => format!("{ranks} x cpu"),
            None => "cpu".to_owned(),
        }
    }
}

/// How much an executor runs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Most processes.
    pub processes: usize,
    /// Most CPU slots that one of them can have.
    pub cpus: usize,
}

/// Where a process is, as others may find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessId {
    /// The host, once it is known.
    pub host: Option<String>,
    /// Its number there; 0 until it has one.
    pub pid: u32,
}

/// A started process. It outlives this value, and the scheduler.
pub trait Process {
    /// Where it is.
    fn id(&self) -> ProcessId;
    /// Asks it to checkpoint and end. Does not wait.
    fn stop(&self);
    /// Ends it now. Does not wait.
    fn kill(&self);
}

/// What the scheduler hears.
#[derive(Debug)]
pub enum Message {
    /// A stage's process said something.
    Event(usize, Event),
    /// A stage's process is no more.
    Ended(usize, End),
    /// There is news of the job in which a stage's process runs, or will run.
    Job(usize, JobNews),
    /// The user wants the run to stop.
    Interrupt,
}

/// What became of the job that a cluster has of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobNews {
    /// Its number; empty if it has none yet.
    pub job: String,
    /// The node on which it has just begun.
    pub host: Option<String>,
    /// What became of it, in a few words.
    pub text: String,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Not by itself: the executor knows whose fault it is.
    Failed(FaultClass, String),
    /// Nobody knows.
    Unknown(String),
}
