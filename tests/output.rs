//! What a command prints arrives whole, or the command says that it did not; and a terminal gets what it can show.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, finish};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::Stdio;

/// A space with a run in its store, and what each command needs that prints something.
fn space() -> TestSpace {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        "t: {uses: fake_train, with: {iterations: 2}}\nend: {uses: fake_report, needs: {parts: {t: t.model}}}",
    );
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&["export", "-o", "r.tar"]).expect(0);
    space
}

/// Every command that prints, with arguments with which it does.
const PRINTING: [&[&str]; 32] = [
    &["run", "r.yaml", "--json"],
    &["run", "r.yaml"],
    &["check", "r.yaml"],
    &["check", "r.yaml", "--json"],
    &["plan", "r.yaml"],
    &["plan", "r.yaml", "--json"],
    &["explain", "r.yaml", "t"],
    &["explain", "r.yaml", "t", "--json"],
    &["get", "r.yaml", "end.report", "-o", "-"],
    &["get", "r.yaml", "end.report", "-o", "copy", "--overwrite", "--json"],
    &["lineage", "r.yaml", "end.report"],
    &["export", "-o", "again.tar", "--json"],
    &["import", "r.tar", "--json"],
    &["status"],
    &["status", "--json"],
    &["watch", "--json"],
    &["stop", "--json"],
    &["logs", "t"],
    &["logs", "t", "--json"],
    &["graph", "r.yaml"],
    &["graph", "r.yaml", "--format", "svg"],
    &["stages"],
    &["stages", "--markdown"],
    &["schema"],
    &["du"],
    &["gc"],
    &["verify"],
    &["pin", "r.yaml", "--json"],
    &["help"],
    &["help", "E012"],
    &["man", "run"],
    &["completions", "bash"],
];

/// Those that clap prints.
const HELP: [&[&str]; 4] = [&["--help"], &["--version"], &["run", "--help"], &["help", "run"]];

#[test]
fn an_output_that_cannot_be_written_is_said_and_ends_with_3() {
    let space = space();
    for args in PRINTING.iter().chain(&HELP) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let child = space.command(args).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let ran = finish(child);
        assert_eq!(ran.code, 3, "{args:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("the output could not be written whole: No space left"),
            "{args:?}: {}",
            ran.stderr
        );
        let _ = std::fs::remove_file(space.path("again.tar"));
    }
}

#[test]
fn nobody_reading_is_no_error() {
    let space = space();
    for args in PRINTING.iter().chain(&HELP) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = space.command(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let ran = finish(child);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("could not be written"), "{args:?}: {}", ran.stderr);
        let _ = std::fs::remove_file(space.path("again.tar"));
    }
}

/// A command that failed anyhow keeps its own code.
#[test]
fn a_failure_keeps_its_code_on_a_full_disk() {
    let space = space();
    space.recipe("bad.yaml", "a: {uses: nothing}");
    space.recipe("fails.yaml", "f: {uses: fake_fail}");
    for (args, code) in [(["check", "bad.yaml", "--json"], 2), (["run", "fails.yaml", "--json"], 1)] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let child = space.command(&args).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let ran = finish(child);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("could not be written whole"), "{args:?}: {}", ran.stderr);
    }
}

/// What a command leaves on a terminal of this name, which is its standard error.
fn on_terminal(space: &TestSpace, term: Option<&str>, args: &[&str]) -> String {
    let (mut main, mut side) = (0, 0);
    let size = libc::winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both numbers are written to, names and settings are not asked for, and the size outlives the call.
    let opened =
        unsafe { libc::openpty(&raw mut main, &raw mut side, std::ptr::null_mut(), std::ptr::null(), &raw const size) };
    assert_eq!(opened, 0);
    // SAFETY: fresh descriptors that nobody else has.
    let (main, side) = unsafe { (OwnedFd::from_raw_fd(main), OwnedFd::from_raw_fd(side)) };
    // SAFETY: it is open.
    unsafe { libc::fcntl(main.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    let mut command = space.command(args);
    command.env_remove("NO_COLOR").env_remove("TERM").stdout(Stdio::null()).stderr(side);
    if let Some(term) = term {
        command.env("TERM", term);
    }
    let mut child = command.spawn().unwrap();
    // The terminal closes with the last one who has it.
    drop(command);
    let read = std::thread::spawn(move || {
        let mut text = Vec::new();
        // On Linux the end of a terminal is an error.
        let _ = File::from(main).read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    child.wait().unwrap();
    read.join().unwrap()
}

#[test]
fn a_dumb_terminal_gets_every_line_and_nothing_else() {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        "s: {uses: fake_source, with: {seconds: 1}}\nf: {uses: fake_fail, with: {message: alas, seconds: 0.3}}
         w: {uses: fake_sum, needs: {terms: {s: s.value}}, with: {seconds: 0.3}}",
    );
    let run = ["run", "r.yaml", "-j", "4"];
    for term in [Some("dumb"), Some(""), None] {
        let seen = on_terminal(&space, term, &run);
        assert!(!seen.contains('\x1b'), "{term:?}: {seen:?}");
        for line in ["start s", "FAILED f  alas", "done w", "3 stages: "] {
            assert!(seen.contains(line), "{term:?}: no {line:?} in {seen}");
        }
        let _ = std::fs::remove_dir_all(space.store());
    }
    // One that can do more gets more, and the same lines.
    let seen = on_terminal(&space, Some("xterm-256color"), &run);
    assert!(seen.contains("\x1b[") && seen.contains("alas") && seen.contains("3 stages: "), "{seen:?}");
    // Mistakes, and followers of a run.
    space.recipe("bad.yaml", "a: {uses: nothing}");
    let seen = on_terminal(&space, Some("dumb"), &["check", "bad.yaml"]);
    assert!(seen.contains("E031") && !seen.contains('\x1b'), "{seen:?}");
    assert!(on_terminal(&space, Some("xterm"), &["check", "bad.yaml"]).contains('\x1b'));
    let seen = on_terminal(&space, Some("dumb"), &["watch"]);
    assert!(seen.contains("FAILED f  alas") && !seen.contains('\x1b'), "{seen:?}");
}
