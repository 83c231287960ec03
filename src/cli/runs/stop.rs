//! `opdflow stop`: asks the process of a run to stop, as Ctrl-C in its terminal would.

use super::left::Left;
use super::status::look;
use crate::cli::{Exit, Failure, Session, args, find_run};
use crate::runlog::{self, Life, RunEvent, RunFolder};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a run may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(session: &Session, args: &args::Stop) -> Result<Exit, Failure> {
    let folder = find_run(&args.run_dir, args.run.as_deref())?;
    let name = folder.name();
    let (summary, life) = look(&folder).map_err(|e| Failure::Usage(format!("{e:#}")))?;
    let pid = summary.started.pid;
    let mut left = Left::default();
    // The number of another host's process is a stranger's here.
    let owner = owner(&folder, pid).filter(|_| !summary.started.is_elsewhere());
    let said = match (life, owner) {
        (Life::Lives, Some(owner)) => {
            ask(&folder, owner, args.now)?;
            asked(&name, &format!("process {pid}"), args.now)
        }
        (Life::Lives, None) | (Life::Silent, _) => {
            let place = summary.started.process();
            if leave_request(&folder, args.now)? {
                asked(&name, &place, args.now)
            } else {
                // If it is dead, nobody else stops its jobs; if it lives, it finds the request.
                left = Left::of(&summary, &folder);
                left.stop(&folder, args.now);
                let patience = PATIENCE.as_secs();
                let jobs =
                    if left.is_empty() { String::new() } else { format!(", and asked its stages: {}", places(&left)) };
                format!("{name} ({place}) gave no sign in {patience} s; left a request in its folder{jobs}")
            }
        }
        // Of a run that died its stages may be left, and nobody else would stop them.
        (Life::Gone, _) => {
            left = Left::of(&summary, &folder);
            left.stop(&folder, args.now);
            gone(&name, &left, args.now)
        }
    };
    while args.wait && (runlog::is_alive(&folder) || left.lives(&folder)) {
        std::thread::sleep(Duration::from_millis(if left.jobs.is_empty() { 50 } else { 1000 }));
    }
    if session.json {
        let stages: serde_json::Map<_, _> = left.stages().into_iter().map(|(s, n)| (s.to_owned(), n.into())).collect();
        let asked = life != Life::Gone || !left.is_empty();
        let alive = runlog::is_alive(&folder);
        session.print(&json!({"run": name, "pid": pid, "asked": asked, "alive": alive, "stages": stages}).to_string());
    } else if !session.quiet {
        session.note(&said);
    }
    Ok(Exit::Done)
}

fn asked(name: &str, place: &str, now: bool) -> String {
    let how = if now { "its stages are ended at once" } else { "its stages go on to their next checkpoints" };
    format!("asked {name} ({place}) to stop; {how}")
}

fn places(left: &Left) -> String {
    let place = |(stage, _): (&str, u64)| format!("{stage} ({})", left.place(stage).unwrap_or_default());
    left.stages().into_iter().map(place).collect::<Vec<_>>().join(", ")
}

fn gone(name: &str, left: &Left, now: bool) -> String {
    if let Some((why, stages)) = left.unknown.as_ref().filter(|_| left.is_empty()) {
        let stages = stages.join(", ");
        return format!("{name} died before; whether jobs of {stages} are still at work is not known: {why}");
    }
    if left.is_empty() {
        return format!("{name} has ended already");
    }
    let how = if now { "ended at once" } else { "asked to stop at their next checkpoints" };
    format!("{name} died before; its stages that were still at work are {how}: {}", places(left))
}

/// The process `pid`, if it is the one that writes this log. Its number alone could belong to a stranger by now, or to
/// a process of another machine that shares the folder.
fn owner(folder: &RunFolder, pid: u32) -> Option<i32> {
    let log = folder.events().canonicalize().ok()?;
    let open = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).ok()?;
    let writes = open.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == log));
    i32::try_from(pid).ok().filter(|pid| writes && *pid > 0)
}

/// Asks a run on another host by a file in its folder. Whether it has said so in its log.
fn leave_request(folder: &RunFolder, now: bool) -> Result<bool, Failure> {
    let wanted = 1 + usize::from(now);
    let place = folder.path().display();
    runlog::ask_to_stop(folder, now).map_err(|e| Failure::Store(format!("cannot write into {place}: {e}")))?;
    let began = Instant::now();
    while stops(folder) < wanted && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(stops(folder) >= wanted)
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
