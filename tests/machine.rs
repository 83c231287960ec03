//! Faults of the machine are told from those of the user and from bugs, and what is forced is computed whatever happens.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, finish, signal};
use serde_json::{Value, json};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

#[test]
fn stages_that_the_machine_failed_end_the_run_with_3() {
    let fails =
        |name: &str, class: &str| format!("{name}: {{uses: fake_fail, with: {{class: {class}, message: {name}}}}}");
    for (classes, code) in [
        (&["machine"][..], 3),
        (&["out_of_memory"], 3),
        (&["machine", "out_of_memory"], 3),
        (&["user"], 1),
        (&["bug"], 1),
        // What the user can mend comes first.
        (&["machine", "user"], 1),
    ] {
        let space = TestSpace::new();
        let stages: Vec<String> = classes.iter().enumerate().map(|(i, c)| fails(&format!("f{i}"), c)).collect();
        space.recipe("r.yaml", &stages.join("\n"));
        space.run(&["run", "r.yaml"]).expect(code);
        space.run(&["watch"]).expect(code);
    }
}

/// However few files the program may open, that is no bug of its own.
#[test]
fn too_few_descriptors_are_no_bug() {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        "a: {uses: fake_source}\nt: {uses: fake_train, needs: {base: a.value}, with: {iterations: 2}}",
    );
    let mut ended = Vec::new();
    for files in 3..24 {
        let mut command = space.command(&["run", "r.yaml", "--force", "t"]);
        // SAFETY: only what is allowed between fork and exec is called.
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: files, rlim_max: files };
                match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            })
        };
        let Ok(child) = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() else { continue };
        let ran = finish(child);
        // With three the system's own loader may find no way to begin: 127.
        assert!(matches!(ran.code, 0 | 2 | 3 | 127), "{files}: {} {}", ran.code, ran.stderr);
        assert!(!ran.stderr.contains("a bug of") && !ran.stderr.contains("panicked"), "{files}: {}", ran.stderr);
        ended.push(ran.code);
    }
    assert!(ended.contains(&3) && ended.last() == Some(&0), "{ended:?}");
}

#[test]
fn a_forced_stage_stays_forced_when_its_process_is_lost() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "t: {uses: fake_train, with: {iterations: 60, step_seconds: 0.02}}");
    space.run(&["run", "r.yaml"]).expect(0);
    let run = space.start(&["run", "r.yaml", "--force", "t", "--json"]);
    let process = |e: &Value| i32::try_from(e["pid"].as_i64().unwrap()).unwrap();
    // Until then the newest run is the one before.
    space.wait_for("run_started", |e| e["argv"].to_string().contains("--force"));
    let first = space.wait_for("started", |_| true);
    space.wait_for("progress", |e| e["step"].as_u64() > Some(0));
    signal(process(&first), libc::SIGKILL);
    let ran = finish(run).expect(0);
    assert_eq!(space.events_of("retried").len(), 1);
    assert_eq!(space.events_of("started").len(), 2);
    assert_eq!(space.events_of("done")[0]["found"], json!(false), "the second process took the first result");
    assert_eq!(ran.verdicts()["t"], "run");
}

/// A forced stage will run, so the machine must have what it needs, whatever the store has.
#[test]
fn a_forced_stage_is_held_against_the_machine() {
    let space = TestSpace::new();
    space.write("tool", "");
    let tool = space.path("tool");
    space.recipe("r.yaml", &format!("a: {{uses: fake_source, with: {{tool: \"{}\"}}}}", tool.display()));
    space.run(&["run", "r.yaml"]).expect(0);
    std::fs::remove_file(&tool).unwrap();
    space.run(&["run", "r.yaml"]).expect(0);
    let ran = space.run(&["run", "r.yaml", "--force", "a"]).expect(2);
    assert!(ran.stderr.contains("E051") && ran.stderr.contains("is not there"), "{}", ran.stderr);
    assert!(space.events_of("started").is_empty());
}
