//! `opdflow logs`: what a stage's process wrote.

use crate::cli::{Exit, Failure, Session, args, find_run};
use crate::recipe::near;
use crate::report::Summary;
use crate::runlog::{self, Life, Pulse, RunFolder};
use opdflow_io::terminal;
use serde_json::json;
use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

pub(crate) fn run(session: &Session, args: &args::Logs) -> Result<Exit, Failure> {
    let folder = match &args.run {
        Some(run) => find_run(&args.run_dir, Some(run))?,
        None => newest(args)?,
    };
    let path = folder.log(&args.stage);
    let Ok(mut file) = File::open(&path) else {
        return Err(Failure::Usage(missing(&folder, &args.stage)));
    };
    if session.json {
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(|e| Failure::Store(format!("cannot read {}: {e}", path.display())))?;
        let text = String::from_utf8_lossy(&text);
        session.print(
            &json!({"run": folder.name(), "stage": args.stage, "path": path.display().to_string(), "text": text})
                .to_string(),
        );
        return Ok(Exit::Done);
    }
    if !session.quiet {
        session.note(&format!("{} in {}: {}", args.stage, folder.name(), path.display()));
    }
    let started = runlog::read(&folder).map(|r| Summary::of(&r.lines).started).unwrap_or_default();
    let pulse = Pulse::of(&folder, &started);
    let mut rest = Vec::new();
    loop {
        // Asked first: what is written before the end is then read below.
        let more = args.follow && pulse.now() != Life::Gone;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(|e| Failure::Store(format!("cannot read {}: {e}", path.display())))?;
        session.out.bytes(shown(&mut rest, text, more).as_bytes());
        if session.out.is_over() || !more {
            return Ok(Exit::Done);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a process wrote, so that nothing in it acts on a terminal. A character whose end is not yet written stays in `rest`
/// while there is `more` to come.
fn shown(rest: &mut Vec<u8>, text: Vec<u8>, more: bool) -> String {
    rest.extend(text);
    let whole = match std::str::from_utf8(rest) {
        Err(e) if more && e.error_len().is_none() => e.valid_up_to(),
        _ => rest.len(),
    };
    let text = String::from_utf8_lossy(&rest[..whole]).into_owned();
    rest.drain(..whole);
    terminal::shown(&text).into_owned()
}

/// The newest run in which the stage had a process.
fn newest(args: &args::Logs) -> Result<RunFolder, Failure> {
    let runs = runlog::all(&RunFolder::home(&args.run_dir));
    match runs.into_iter().rev().find(|r| r.log(&args.stage).is_file()) {
        Some(folder) => Ok(folder),
        // The newest one then says what stages there are.
        None => find_run(&args.run_dir, None),
    }
}

fn missing(folder: &RunFolder, stage: &str) -> String {
    let summary = runlog::read(folder).map(|r| Summary::of(&r.lines)).unwrap_or_default();
    let names = summary.stages.iter().map(|s| s.name.as_str());
    let run = folder.name();
    if let Some(found) = summary.stage(stage) {
        return format!(
            "`{stage}` wrote nothing in {run}: it is {}\nhelp: a stage that is found in the store has no process",
            found.state.word()
        );
    }
    let help = near(stage, names.clone()).map_or_else(
        || format!("its stages are {}", names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")),
        |n| format!("did you mean `{n}`?"),
    );
    format!("{run} has no stage `{stage}`\nhelp: {help}")
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_log_is_shown_as_text_piece_by_piece() {
        let mut rest = Vec::new();
        assert_eq!(shown(&mut rest, b"a\x1b[2J \xc3".to_vec(), true), "a\\u{1b}[2J ");
        assert_eq!(shown(&mut rest, b"\xbc\n\xff".to_vec(), true), "ü\n\u{fffd}");
        assert_eq!(shown(&mut rest, b"\xc3".to_vec(), false), "\u{fffd}");
    }
}
