//! Runs whose process is on another host that shares their folder: nobody calls them dead, and they are asked by a file.
#![cfg(not(feature = "torch"))] // It is the same engine in both builds, and once is enough.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, finish};
use serde_json::json;

const LONG: &str = "t: {uses: fake_train, with: {iterations: 4000, step_seconds: 0.01}}";

/// The log of a run as another host has it that sees no lock: a copy, with the name of that host.
fn elsewhere(space: &TestSpace, to: &str) -> std::path::PathBuf {
    let from = space.path(".opdflow/runs/latest").canonicalize().unwrap();
    let copy = space.path(".opdflow/runs").join(to);
    std::fs::create_dir_all(&copy).unwrap();
    let text = std::fs::read_to_string(from.join("events.jsonl")).unwrap();
    let host = space.events_of("run_started")[0]["host"].as_str().unwrap().to_owned();
    assert!(!host.is_empty());
    let text = text.replace(&format!("\"host\":\"{host}\",\"slots\""), "\"host\":\"login2\",\"slots\"");
    std::fs::write(copy.join("events.jsonl"), text).unwrap();
    copy
}

#[test]
fn a_request_in_the_folder_of_a_run_stops_it() {
    let space = TestSpace::new();
    space.recipe("r.yaml", LONG);
    let run = space.start(&["run", "r.yaml"]);
    space.wait_for("checkpointed", |_| true);
    std::fs::write(space.path(".opdflow/runs/latest/stop"), "").unwrap();
    finish(run).expect(75);
    assert_eq!(space.events_of("stopping"), [json!({"kill": false})]);
    assert!(space.events_of("stopped")[0]["step"].as_u64() > Some(0));

    std::fs::rename(space.path(".opdflow"), space.path("before")).unwrap();
    let run = space.start(&["run", "r.yaml"]);
    space.wait_for("checkpointed", |_| true);
    std::fs::write(space.path(".opdflow/runs/latest/stop-now"), "").unwrap();
    finish(run).expect(130);
}

#[test]
fn a_run_on_another_host_is_not_called_dead() {
    let space = TestSpace::new();
    space.recipe("r.yaml", LONG);
    let run = space.start(&["run", "r.yaml"]);
    space.wait_for("checkpointed", |_| true);
    let copy = elsewhere(&space, "20991231T000000Z-test-0000");
    space.run(&["stop", "--now", "--wait", &space.path(".opdflow/runs/latest").display().to_string()]).expect(0);
    finish(run).expect(130);
    let name = copy.file_name().unwrap().to_str().unwrap().to_owned();
    let seen = space.run(&["status", &name, "--json"]).expect(0).json();
    assert_eq!((&seen["state"], &seen["host"], &seen["alive"]), (&json!("elsewhere"), &json!("login2"), &json!(false)));
    assert_eq!(seen["stages"]["t"]["state"], json!("running"));
    let text = space.run(&["status", &name]).expect(0).stdout;
    assert!(text.contains("on login2 (process ") && !text.contains("died"), "{text}");
    // It gives no sign, and finds the request if it lives.
    let stopped = space.run(&["stop", &name]).expect(0).stderr;
    assert!(stopped.contains("gave no sign in 10 s"), "{stopped}");
    assert!(copy.join("stop").exists());
}

/// What an earlier version wrote has no host: it is of this machine.
#[test]
fn a_log_without_a_host_is_read_as_before() {
    let space = TestSpace::new();
    space.recipe("r.yaml", LONG);
    let run = space.start(&["run", "r.yaml"]);
    space.wait_for("checkpointed", |_| true);
    let copy = elsewhere(&space, "20991231T000000Z-test-0000");
    space.run(&["stop", "--now", "--wait", &space.path(".opdflow/runs/latest").display().to_string()]).expect(0);
    finish(run).expect(130);
    let text = std::fs::read_to_string(copy.join("events.jsonl")).unwrap();
    std::fs::write(copy.join("events.jsonl"), text.replace("\"host\":\"login2\",", "")).unwrap();
    let text = space.run(&["status", "20991231"]).expect(0).stdout;
    assert!(text.contains("died without a last word"), "{text}");
}
