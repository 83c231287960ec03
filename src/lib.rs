//! opdflow's engine: recipes become plans, plans become cached, resumable runs.
//!
//! The way of a recipe through the modules, left to right:
//!
//! | module | takes | gives |
//! |---|---|---|
//! | [`recipe`] | YAML text | a checked [`recipe::Recipe`], or every mistake with its place |
//! | [`plan`] | a recipe, the store | a [`plan::Plan`]: a graph with keys and verdicts |
//! | [`sched`] | a plan, slots | the order of things: what runs when, what is a hit |
//! | [`exec`] | one job | a child process and its events |
//! | [`runlog`] | events | the append-only record of a run |
//! | [`render`] | the same events | progress bars or plain lines |
//! | [`report`] | a finished run | what `run` prints at its end, text or JSON |
//! | [`tracker`] | events, the store | the files of TensorBoard and MLflow |
//! | [`cli`] | arguments | one file per command |
//!
//! The engine knows stages only through `opdflow_api`, and nothing of tensors.

pub mod cli;
pub mod exec;
pub mod plan;
pub mod recipe;
pub mod render;
pub mod report;
pub mod runlog;
pub mod sched;
pub mod tracker;

/// This program, its version and, in a release build from a checkout, the commit: `opdflow 0.1.0 (commit 919db76)`.
pub const PROGRAM: &str = env!("OPDFLOW_PROGRAM");
