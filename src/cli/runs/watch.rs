//! `opdflow watch`: a run as its own terminal shows it, from its log.

use crate::cli::runs::left::Left;
use crate::cli::{Exit, Failure, Session, args, find_run};
use crate::render::{self, Mode};
use crate::report::{Standing, Summary};
use crate::runlog::{self, Life, Pulse, Tail};
use std::time::Duration;

/// How long to wait for news.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn run(session: &Session, args: &args::Watch) -> Result<Exit, Failure> {
    let usage = |e: anyhow::Error| Failure::Usage(format!("{e:#}"));
    let folder = find_run(&args.run_dir, args.run.as_deref())?;
    let mut log = Tail::open(&folder).map_err(usage)?;
    let mut screen =
        render::screen(Mode::of(session.quiet || session.json, args.plain, session.moving), session.colour);
    let mut summary = Summary::default();
    // A run takes its lock right after it has made its log: one look in between must not count as its death.
    let mut dead = 0;
    let mut pulse: Option<Pulse> = None;
    while summary.ended.is_none() && dead < 2 && !session.out.is_over() {
        // Asked before the log is read, so that the last words of a run that ends meanwhile are not missed.
        let lives = pulse.as_ref().map_or_else(|| runlog::is_alive(&folder), |p| p.now() != Life::Gone);
        dead = if lives { 0 } else { dead + 1 };
        for line in log.news().map_err(usage)? {
            summary.take(line.at, &line.event);
            if session.json {
                session.print(&serde_json::json!(line).to_string());
            } else {
                screen.show(&line.event, &summary);
            }
        }
        // Who the run is stands in its first line.
        if pulse.is_none() && summary.started.pid != 0 {
            pulse = Some(Pulse::of(&folder, &summary.started));
        }
        if summary.ended.is_none() {
            std::thread::sleep(PAUSE);
        }
    }
    screen.finish();
    Ok(match summary.ended {
        Some((true, _)) => Exit::Done,
        Some((false, _)) if summary.by_machine() => Exit::MachineFailed,
        Some((false, _)) if summary.count(Standing::Failed) > 0 => Exit::StageFailed,
        None if session.out.is_over() => Exit::Done,
        Some((false, _)) => Exit::Stopped,
        None => {
            session.note(&format!("{} {}", folder.name(), Left::of(&summary, &folder).died(&summary)));
            Exit::StageFailed
        }
    })
}
