//! The first process of a job, on its node: it runs the stage's program, passes on that it shall stop, and writes down how it ended.

use super::lines::{Asked, Begins, Ends, Line};
use super::script::{events, wish};
use crate::exec::local::wait_without_reaping;
use anyhow::{Context as _, Result};
use opdflow_api::cache::Host;
use opdflow_api::rank::{HALVE, HALVINGS};
use opdflow_api::{FaultClass, STOPPED};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the file is looked for by which a run asks its job to stop.
const LOOK: Duration = Duration::from_secs(1);

/// How often all processes of a stage begin anew with half the micro-batch.
const MOST_HALVINGS: u32 = 20;

/// What the threads of the process share.
#[derive(Default)]
struct Shared {
    asked: Option<Asked>,
    /// The stage's program, until it is reaped.
    child: Option<i32>,
}

/// Runs `command` as the program of a stage, for job number `id` with these files ([`super::script::Request::files`]). Its exit code.
///
/// # Errors
/// The program cannot be started, or its events cannot be written.
pub fn attend(files: &Path, id: u64, command: &[OsString]) -> Result<i32> {
    let path = events(files, id);
    let open = File::options().create(true).append(true).open(&path);
    let mut file = open.with_context(|| format!("cannot write {}", path.display()))?;
    let shared = Arc::new(Mutex::new(Shared::default()));
    let mut signals = Signals::new([SIGUSR1, SIGTERM, SIGINT, SIGHUP]).context("cannot listen to signals")?;
    let heard = shared.clone();
    let listen = move || {
        for signal in signals.forever() {
            pass_on(&heard, if signal == SIGUSR1 { Asked::Limit } else { Asked::Signal });
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).context("cannot start a thread")?;
    let (seen, wanted) = (shared.clone(), wish(files, id));
    let look = move || {
        while !wanted.exists() {
            std::thread::sleep(LOOK);
        }
        pass_on(&seen, Asked::File);
    };
    std::thread::Builder::new().name("wish".to_owned()).spawn(look).context("cannot start a thread")?;

    // By Slurm's name for it, which `sinfo` and `srun -w` know.
    let node = std::env::var("SLURMD_NODENAME").ok().filter(|name| !name.is_empty());
    let begins = Begins { host: node.unwrap_or_else(|| Host::this().name.clone()), pid: std::process::id() };
    write(&mut file, &Line::Begins(begins)).with_context(|| format!("cannot write {}", path.display()))?;
    let mut ends = run(command, 0, &file, &shared)?;
    for halvings in 1..=MOST_HALVINGS {
        // Of several processes one lacks memory: all begin anew. On one node the stage's program sees to that itself.
        if ends.code != Some(HALVE) || ends.asked.is_some() {
            break;
        }
        ends = run(command, halvings, &file, &shared)?;
    }
    if ends.code == Some(HALVE) {
        ends.code = Some(if ends.asked.is_some() { i32::from(STOPPED) } else { FaultClass::OutOfMemory.exit_code() });
    }
    // A full disk: the job's own exit code says the same, as long as Slurm knows it.
    let _ = write(&mut file, &Line::Ends(ends.clone()));
    Ok(ends.code.unwrap_or_else(|| 128 + ends.signal.unwrap_or(0)))
}

fn write(file: &mut File, line: &Line) -> std::io::Result<()> {
    file.write_all(&Line::text(line).unwrap_or_default())?;
    file.sync_all()
}

fn run(command: &[OsString], halvings: u32, events: &File, shared: &Mutex<Shared>) -> Result<Ends> {
    let (program, arguments) = command.split_first().context("a job without a program")?;
    let shown = Path::new(program).display();
    let mut child = Command::new(program);
    child
        .args(arguments)
        .env(HALVINGS, halvings.to_string())
        .stdin(Stdio::null())
        .stdout(events.try_clone().context("cannot duplicate a file")?);
    // Without this process nobody would pass on that it shall stop, and Slurm takes the job for ended.
    // SAFETY: one call of the system that takes no memory.
    unsafe {
        child.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let mut lock = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if lock.asked.is_some() {
        // Before it has begun.
        return Ok(Ends { code: Some(i32::from(STOPPED)), signal: None, asked: lock.asked });
    }
    let mut child = child.spawn().with_context(|| format!("cannot start {shown}"))?;
    lock.child = i32::try_from(child.id()).ok();
    drop(lock);
    // So that the number is not another process's while a signal may be sent to it.
    wait_without_reaping(child.id());
    let mut lock = shared.lock().unwrap_or_else(PoisonError::into_inner);
    lock.child = None;
    let status = child.wait().context("cannot wait for the stage's program")?;
    let (code, signal) = (status.code(), status.signal());
    // Hit before it listens, it ends by the signal itself, and nothing is lost.
    let early = lock.asked.is_some() && matches!(signal, Some(SIGUSR1 | SIGTERM));
    let (code, signal) = if early { (Some(i32::from(STOPPED)), None) } else { (code, signal) };
    Ok(Ends { code, signal, asked: lock.asked })
}

/// Notes who asks first, and asks the stage's program. `srun` passes this signal on to all processes of the stage; by SIGTERM it would
/// kill them.
fn pass_on(shared: &Mutex<Shared>, by: Asked) {
    let mut lock = shared.lock().unwrap_or_else(PoisonError::into_inner);
    lock.asked.get_or_insert(by);
    if let Some(child) = lock.child {
        // SAFETY: no memory is involved; the lock keeps the number ours.
        unsafe { libc::kill(child, SIGUSR1) };
    }
}
