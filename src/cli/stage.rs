//! `opdflow-stage __stage JOB`, the process of one stage, and `__tool NAME`, that of a tool. Started by `opdflow`, not by people.

use anyhow::{Context as _, Result};
use opdflow_api::{Event, EventSink, Fault, FaultClass, Job, Rank, StopFlag, Tool, Worker, Workers, run_job, run_tool};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;

/// The whole of the program that runs stages and tools: `__stage JOB`, or `__tool NAME` with an order on the standard
/// input; exit code out.
#[must_use]
pub fn stage_main(workers: &Workers, tools: &[Box<dyn Tool>]) -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let code = match (args.next(), args.next(), args.next()) {
        (Some(word), Some(job), None) if word == "__stage" => run(Path::new(&job), workers),
        (Some(word), Some(name), None) if word == TOOL => run_named(&name.to_string_lossy(), tools),
        _ => {
            let _ = writeln!(std::io::stderr(), "opdflow runs this program for each stage; run `opdflow help` instead");
            2
        }
    };
    ExitCode::from(u8::try_from(code).unwrap_or(70))
}

/// The word before a tool's name.
pub(super) const TOOL: &str = "__tool";

/// Runs a tool. A signal is the wish to stop.
fn run_named(name: &str, tools: &[Box<dyn Tool>]) -> i32 {
    super::threads::ready();
    let ready = || -> Result<(&dyn Tool, serde_json::Value, EventSink, StopFlag)> {
        let tool = tools.iter().find(|t| t.name() == name);
        let tool = tool.with_context(|| format!("there is no tool `{name}`: both programs must be from one build"))?;
        let order = serde_json::from_reader(std::io::stdin()).context("cannot read the order")?;
        let stop = StopFlag::default();
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, stop.cell()).context("cannot listen to signals")?;
        }
        Ok((tool.as_ref(), order, EventSink::lines(own_stdout()?), stop))
    };
    match ready() {
        Ok((tool, order, events, stop)) => run_tool(tool, &order, &events, &stop),
        Err(error) => {
            let _ =
                writeln!(std::io::stderr(), "opdflow {TOOL}: {}", opdflow_io::terminal::message(&format!("{error:#}")));
            Fault::class_of(&error).exit_code()
        }
    }
}

/// Runs the job in the file `path` and says with which code to exit. Events go to the standard output as JSON lines,
/// everything else to the standard error.
#[must_use]
pub(super) fn run(path: &Path, workers: &Workers) -> i32 {
    super::threads::ready();
    match prepare(path) {
        Ok((job, None, events, _)) if job.ranks > 1 => launch(path, &job, &events),
        Ok((job, rank, events, stop)) => match worker(&job, workers) {
            Ok(worker) => run_job(worker, &job, rank.as_ref(), &events, &stop).exit_code(),
            Err(found) => {
                let message = format!("{found}: `opdflow` and `opdflow-stage` must be from one build");
                events.send(&Event::Failed { class: FaultClass::User, message });
                FaultClass::User.exit_code()
            }
        },
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "opdflow __stage: {}",
                opdflow_io::terminal::message(&format!("{error:#}"))
            );
            Fault::class_of(&error).exit_code()
        }
    }
}

/// Starts the processes of a stage that has several, where no launcher has.
fn launch(path: &Path, job: &Job, events: &EventSink) -> i32 {
    // The file of this very program, even if it was replaced since.
    match crate::exec::run_ranks(Path::new("/proc/self/exe"), path, job, events) {
        Ok(code) => code,
        Err(error) => {
            let class = Fault::class_of(&error);
            events.send(&Event::Failed { class, message: format!("{error:#}") });
            class.exit_code()
        }
    }
}

/// The worker for a job. A program from another build could leave something else than what the key stands for.
fn worker<'a>(job: &Job, workers: &'a Workers) -> Result<&'a dyn Worker, String> {
    let Some(worker) = workers.get(&job.kind) else {
        return Err(format!("the process of the stage has no stage kind `{}`", job.kind));
    };
    let (planned, ours) = (job.manifest["semantics"].as_u64(), worker.describe().semantics);
    if planned.is_some_and(|planned| planned != u64::from(ours)) {
        return Err(format!(
            "the run was planned with version {} of stage kind `{}`, and the process of the stage has version {ours}",
            planned.unwrap_or_default(),
            job.kind
        ));
    }
    Ok(worker.as_ref())
}

fn prepare(path: &Path) -> Result<(Job, Option<Rank>, EventSink, StopFlag)> {
    let text = std::fs::read(path).with_context(|| format!("cannot read the job {}", path.display()))?;
    let job: Job = serde_json::from_slice(&text).with_context(|| format!("cannot read the job {}", path.display()))?;
    let rank = Rank::of_environment(|name| std::env::var(name).ok())?;
    let stop = StopFlag::default();
    if job.ranks > 1 && rank.is_none() {
        // Signals are the launcher's to hear.
        return Ok((job, None, EventSink::lines(own_stdout()?), stop));
    }
    // The last is what Slurm sends before a time limit, and the one that `srun` passes on to all processes of a stage.
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGUSR1] {
        signal_hook::flag::register(signal, stop.cell()).context("cannot listen to signals")?;
    }
    Ok((job, rank, sink(own_stdout()?), stop))
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
            Event::Warning(warning) => Some(format!("warning {warning}")),
            Event::Failed { message, .. } => Some(format!("failed: {message}")),
            Event::Started { step } => Some(format!("started at step {step}")),
            _ => None,
        };
        // A log that cannot be written (a full disk) must not end the stage.
        if let Some(words) = words {
            let _ = writeln!(std::io::stderr(), "{}", opdflow_io::terminal::message(&words));
        }
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = pipe.write_all(&line);
        }
    })
}
