//! `opdflow __stage JOB`: the process of one stage. Started by the scheduler, not by people.

use anyhow::{Context as _, Result};
use opdflow_stage::{Event, EventSink, FaultClass, Job, Registry, StopFlag, run_job};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::Path;

/// Runs the job in the file `path` and says with which code to exit. Events go to the standard output as JSON lines,
/// everything else to the standard error.
#[must_use]
pub fn run(path: &Path, registry: &Registry) -> i32 {
    match prepare(path) {
        Ok((job, events, stop)) => {
            let Some(kind) = registry.get(&job.kind) else {
                let message = format!("this program has no stage kind `{}`", job.kind);
                events.send(&Event::Failed { class: FaultClass::Bug, message });
                return FaultClass::Bug.exit_code();
            };
            run_job(kind.as_ref(), &job, &events, &stop).exit_code()
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "opdflow __stage: {error:#}");
            FaultClass::Bug.exit_code()
        }
    }
}

fn prepare(path: &Path) -> Result<(Job, EventSink, StopFlag)> {
    let text = std::fs::read(path).with_context(|| format!("cannot read the job {}", path.display()))?;
    let job = serde_json::from_slice(&text).with_context(|| format!("cannot read the job {}", path.display()))?;
    let stop = StopFlag::default();
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, stop.cell()).context("cannot listen to signals")?;
    }
    Ok((job, sink(own_stdout()?), stop))
}

/// The events' end of the pipe, for this code alone. The standard output itself becomes the standard error: a
/// library that prints writes into the log, not between the events, and a grandchild cannot hold the pipe open.
fn own_stdout() -> Result<File> {
    let own = std::io::stdout().as_fd().try_clone_to_owned().context("cannot duplicate the standard output")?;
    // SAFETY: both numbers are the standard ones and open.
    let done = unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) };
    anyhow::ensure!(done >= 0, "cannot redirect the standard output: {}", std::io::Error::last_os_error());
    Ok(File::from(own))
}

/// Sends events down the pipe, and those made of words into the log too, which stays complete when the scheduler
/// has died.
fn sink(mut pipe: File) -> EventSink {
    EventSink::new(move |event| {
        let words = match event {
            Event::Said { text } => Some(text.clone()),
            Event::Failed { message, .. } => Some(format!("failed: {message}")),
            Event::Started { step } => Some(format!("started at step {step}")),
            _ => None,
        };
        // A log that cannot be written (a full disk) must not end the stage.
        if let Some(words) = words {
            let _ = writeln!(std::io::stderr(), "{words}");
        }
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = pipe.write_all(&line);
        }
    })
}
