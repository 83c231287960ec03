//! The process of a tool: an order in, events out, and its end.

use super::local::{LocalProcess, Program, reap};
use super::{End, Process as _};
use anyhow::{Context as _, Result};
use opdflow_api::Event;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs `opdflow-stage __tool NAME` to its end. `threads` is for the libraries that read it from the environment.
///
/// A signal that asks this process to end asks the tool to stop; a second one kills it. Either way it then ended with
/// [`End::Code`] 130.
///
/// # Errors
/// The program is not there or cannot be started; the message says the way out.
pub fn run_tool(name: &str, order: &impl serde::Serialize, threads: usize, mut hear: impl FnMut(Event)) -> Result<End> {
    let program = Program::beside_this_one()?;
    let text = serde_json::to_vec(order).context("cannot encode the order")?;
    let mut command = Command::new(program.place());
    command.arg0("opdflow").arg("__tool").arg(name).stdin(Stdio::piped()).stdout(Stdio::piped());
    for variable in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"] {
        command.env(variable, threads.to_string());
    }
    // Apart from the terminal's foreground group: Ctrl-C reaches it through us alone.
    command.process_group(0);
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen to signals")?;
    let alive = Arc::new(Mutex::new(None));
    let process = Arc::new(LocalProcess { id: 0, alive: alive.clone() });
    let (handle, asked) = (signals.handle(), Arc::new(AtomicBool::new(false)));
    let (again, heard) = (asked.clone(), process.clone());
    let forward = move || {
        for _ in signals.forever() {
            if again.swap(true, Ordering::SeqCst) { heard.kill() } else { heard.stop() }
        }
    };
    // The thread first: without it the child could not be stopped.
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward).context("cannot start a thread")?;
    let mut child = command.spawn().context("cannot start a process of opdflow")?;
    *alive.lock().unwrap_or_else(PoisonError::into_inner) = Some(child.id());
    if asked.load(Ordering::SeqCst) {
        process.stop();
    }
    if let Some(mut order) = child.stdin.take() {
        // A process that is gone already says why by its end.
        let _ = order.write_all(&text);
    }
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        // What is no event (a stray print) is skipped.
        if let Some(event) = line.ok().and_then(|text| serde_json::from_str(&text).ok()) {
            hear(event);
        }
    }
    let end = reap(child, &alive);
    handle.close();
    Ok(if asked.load(Ordering::SeqCst) && end != End::Code(0) { End::Code(130) } else { end })
}
