//! The engine's program and the program of the stages: what each loads, and what happens when they do not fit.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What the system's loader would load for a program, without starting it.
fn libraries(program: &Path) -> String {
    let output = Command::new(program).env("LD_TRACE_LOADED_OBJECTS", "1").output().expect("the loader starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("libc.so"), "not a list of libraries: {text}");
    text
}

fn names_libtorch(list: &str) -> bool {
    list.contains("libtorch") || list.contains("libc10")
}

#[test]
fn the_engine_starts_without_libtorch() {
    let list = libraries(Path::new(env!("CARGO_BIN_EXE_opdflow")));
    assert!(!names_libtorch(&list), "{list}");
}

#[cfg(feature = "torch")]
#[test]
fn the_stages_start_with_libtorch() {
    let list = libraries(Path::new(env!("CARGO_BIN_EXE_opdflow-stage")));
    assert!(names_libtorch(&list), "{list}");
}

/// A stage that would leave something else than what its key stands for must not run.
#[test]
fn a_job_of_another_version_is_refused() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "a: {uses: fake_source, with: {value: 1}}");
    space.run(&["run", "r.yaml"]).expect(0);
    let path = space.path(".opdflow/runs/latest/jobs/a.json");
    let mut job: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    job["manifest"]["semantics"] = 1000.into();
    space.write("job.json", &job.to_string());
    let ran = space.run(&["__stage", "job.json"]).expect(65);
    assert!(ran.stderr.contains("version 1000") && ran.stderr.contains("one build"), "{}", ran.stderr);
}

#[test]
fn a_run_says_that_the_other_program_is_missing() {
    let space = TestSpace::new();
    let alone = space.path("opdflow");
    std::fs::copy(env!("CARGO_BIN_EXE_opdflow"), &alone).unwrap();
    space.recipe("r.yaml", "p: {uses: prompts, with: {task: ocr, train: 8, validation: 4, test: 4}}");
    let mut command = Command::new(&alone);
    command.current_dir(space.path("")).env("OPDFLOW_STORE", space.store()).env("OPDFLOW_GPUS", "0");
    // A process that another test forks meanwhile may hold the fresh copy open for writing until it is another program.
    command.args(["run", "r.yaml"]);
    let output = loop {
        match command.output() {
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            ran => break ran.unwrap(),
        }
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!space.path(".opdflow/runs").exists(), "nothing has started");
    assert!(said.contains("opdflow-stage") && said.contains("side by side"), "{said}");
    // What this program can do alone it still does.
    let fakes = TestSpace::new();
    fakes.recipe("r.yaml", "a: {uses: fake_source, with: {value: 1}}");
    let mut command = Command::new(&alone);
    command.current_dir(fakes.path("")).env("OPDFLOW_STORE", fakes.store()).env("OPDFLOW_FAKE_STAGES", "1");
    assert!(command.args(["run", "r.yaml"]).output().unwrap().status.success());
}
