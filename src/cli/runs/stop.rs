//! `opdflow stop`: asks the process of a run to stop, as Ctrl-C in its terminal would.

use crate::cli::runs::status::{look, orphans};
use crate::cli::{Exit, Failure, Session, args, find_run};
use crate::report::Summary;
use crate::runlog::{self, Life, RunEvent, RunFolder};
use opdflow_io::terminal::line;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a run may take to answer a signal.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(session: &Session, args: &args::Stop) -> Result<Exit, Failure> {
    let folder = find_run(&args.run_dir, args.run.as_deref())?;
    let name = folder.name();
    let (summary, life) = look(&folder).map_err(|e| Failure::Usage(format!("{e:#}")))?;
    let pid = summary.started.pid;
    let alive = life == Life::Lives;
    elsewhere(&name, &summary, life)?;
    // Of a run that died its stages may be left, and nobody else would stop them.
    let left = if alive { Vec::new() } else { orphans(&summary, &folder) };
    left.iter().for_each(|stage| stage.stop(&folder, args.now));
    let said = if alive {
        let owner = owner(&folder, pid).ok_or_else(|| {
            Failure::Usage(format!("{name} is at work, but not as process {pid} of this machine\nhelp: stop it on the machine where it was started"))
        })?;
        ask(&folder, owner, args.now)?;
        let how = if args.now { "its stages are ended at once" } else { "its stages go on to their next checkpoints" };
        format!("asked {name} (process {pid}) to stop; {how}")
    } else if left.is_empty() {
        format!("{name} has ended already")
    } else {
        let stages: Vec<String> = left.iter().map(|o| format!("{} (process {})", o.stage, o.pid)).collect();
        let how = if args.now { "ended at once" } else { "asked to stop at their next checkpoints" };
        format!("{name} died before; its stages that were still at work are {how}: {}", stages.join(", "))
    };
    while args.wait && (runlog::is_alive(&folder) || left.iter().any(|stage| stage.lives(&folder))) {
        std::thread::sleep(Duration::from_millis(50));
    }
    if session.json {
        let stages: serde_json::Map<_, _> = left.iter().map(|o| (o.stage.clone(), o.pid.into())).collect();
        let asked = alive || !left.is_empty();
        let alive = runlog::is_alive(&folder);
        session.print(&json!({"run": name, "pid": pid, "asked": asked, "alive": alive, "stages": stages}).to_string());
    } else if !session.quiet {
        session.note(&said);
    }
    Ok(Exit::Done)
}

/// Refuses what is another host's: the number of its process is a stranger's here.
fn elsewhere(name: &str, summary: &Summary, life: Life) -> Result<(), Failure> {
    if life == Life::Gone || !summary.started.is_elsewhere() {
        return Ok(());
    }
    let (process, host) = (summary.started.process(), line(&summary.started.host));
    let how = if life == Life::Lives { "is at work" } else { "gives no sign of life, and may be at work," };
    Err(Failure::Usage(format!("{name} {how} as {process}\nhelp: stop it there: `opdflow stop {name}` on {host}")))
}

/// The process `pid`, if it is the one that writes this log. Its number alone could belong to a stranger by now, or to
/// a process of another machine that shares the folder.
fn owner(folder: &RunFolder, pid: u32) -> Option<i32> {
    let log = folder.events().canonicalize().ok()?;
    let open = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).ok()?;
    let writes = open.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == log));
    i32::try_from(pid).ok().filter(|pid| writes && *pid > 0)
}

/// Brings a run to stop: one signal asks, the second one ends. A run that is stopping already is not signalled again
/// unless that is what is wanted.
fn ask(folder: &RunFolder, pid: i32, now: bool) -> Result<(), Failure> {
    let wanted = 1 + usize::from(now);
    for step in 0..wanted {
        if stops(folder) > step {
            continue;
        }
        // SAFETY: no memory is involved.
        if unsafe { libc::kill(pid, libc::SIGTERM) } != 0 && runlog::is_alive(folder) {
            return Err(Failure::Usage(format!(
                "process {pid} cannot be signalled: {}",
                std::io::Error::last_os_error()
            )));
        }
        // Two signals in one moment would count as one.
        let began = Instant::now();
        while stops(folder) <= step && runlog::is_alive(folder) && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// How often the run was asked to stop.
fn stops(folder: &RunFolder) -> usize {
    let lines = runlog::read(folder).map(|r| r.lines).unwrap_or_default();
    lines.iter().filter(|l| matches!(l.event, RunEvent::Stopping { .. })).count()
}
