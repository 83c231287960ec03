//! What a stage is, seen from both sides: the engine that plans and starts it, and the code that runs it.
//!
//! - [`Stage`] is what a stage author writes of a kind: what it says of itself. With its parameter type erased it is a
//!   [`Kind`], which is all that the engine sees. With the function that does the work it is a [`Worker`], which is all
//!   that the stage's process needs. [`Registry`] and [`Workers`] hold them by name.
//! - [`port`] has the typed ports, [`fault`] the classes of failure and their exit codes.
//! - [`Job`] is one stage ready to run, as the scheduler hands it to the child process; [`run_job()`] is that process;
//!   [`StageContext`] is what it gives to the stage: inputs, outputs, checkpoints, metrics, the wish to stop.
//! - [`Event`] is what the child says to the scheduler, a JSON line each.
//! - [`Warning`] is what a stage says of work that may be useless, [`Doubt`] the same before a run.
//! - [`Tool`] is work outside of recipes that needs the same libraries: `opdflow generate`.
//!
//! Nothing here knows tensors, recipes or YAML.

mod added;
mod choice;
mod clock;
mod context;
mod event;
#[cfg(feature = "fake")]
pub mod fake;
mod fault;
mod fields;
mod former;
mod job;
mod kind;
mod mismatch;
mod param;
pub mod port;
pub mod range;
mod registry;
mod resources;
mod run_job;
mod stop;
mod tool;
pub mod warning;

pub use added::without_added;
pub use choice::bare_names;
pub use clock::Cost;
pub use context::{StageContext, Waits};
pub use event::{Event, EventSink, RankState};
pub use fault::{Fault, FaultClass, STOPPED};
pub use former::{Former, every_former, former_names, under_new_name};
pub use job::rank;
pub use job::rank::Rank;
pub use job::{Job, JobInput};
pub use kind::{Asset, Code, Connection, Description, Foreseen, Horizon, Kind, Ports, Stage, Unreadable, Worker};
pub use opdflow_cache as cache;
pub use param::{Cause, Mismatch, ParamFault};
pub use port::{Arity, Input, Member, OfSeed, Output, Shown};
pub use registry::{Registry, Workers};
pub use resources::{Batches, Calls, Environment, Memory, Resources, Work};
pub use run_job::{Outcome, run_job, warnings_of};
pub use stop::StopFlag;
pub use tool::{
    DoctorOrder, ExportLoraOrder, GenerateOrder, RewardServerOrder, ScoreOrder, Tool, read_order, run_tool,
};
pub use warning::{Doubt, Warning};

/// Adds the kinds of stage that only tests use, in a build that has them (feature `fake`, which the tests of this
/// workspace turn on); in any other build it adds nothing.
#[must_use]
pub fn with_fakes(registry: Registry) -> Registry {
    #[cfg(feature = "fake")]
    let registry = fake::kinds(registry);
    registry
}

/// The same for what runs them.
#[must_use]
pub fn with_fake_workers(workers: Workers) -> Workers {
    #[cfg(feature = "fake")]
    let workers = fake::workers(workers);
    workers
}
