//! A tool of the program that has libtorch, run to its end, and its failure as a command says it.

use super::{Failure, args};
use crate::exec::{End, run_tool};
use crate::sched::Slots;
use opdflow_api::{Event, FaultClass};
use serde::Serialize;

/// Runs a tool and hands on what it says. Gives how its process ended, if it named no failure. `help`: the way out where the machine
/// is short of something; nothing if there is none to name.
pub(super) fn run(
    name: &str,
    order: &impl Serialize,
    threads: usize,
    help: Option<&str>,
    mut hear: impl FnMut(Event),
) -> Result<End, Failure> {
    let mut failed = None;
    let end = run_tool(name, order, threads, |event| match event {
        Event::Failed { class, message } => failed = Some((class, message)),
        other => hear(other),
    })
    .map_err(|e| Failure::Store(format!("{e:#}")))?;
    let Some((class, text)) = failed else { return Ok(end) };
    Err(match class {
        FaultClass::User | FaultClass::NotFinite => Failure::Usage(text),
        FaultClass::OutOfMemory | FaultClass::Machine => {
            Failure::Store(help.map_or_else(|| text.clone(), |help| format!("{text}\nhelp: {help}")))
        }
        FaultClass::Bug => Failure::Bug(text),
    })
}

/// The number of threads and the name of the device, as asked for or as the machine has them.
pub(super) fn place(asked: &args::Place) -> (usize, String) {
    let slots = Slots::of_machine(asked.threads);
    let device = if slots.gpus() > 0 { "cuda:0" } else { "cpu" };
    (slots.cpus(), asked.device.clone().unwrap_or_else(|| device.to_owned()))
}
