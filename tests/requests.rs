//! Runs whose process is on another host that shares their folder: they are asked to stop by a file.
#![cfg(not(feature = "torch"))] // It is the same engine in both builds, and once is enough.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, finish};
use serde_json::json;
use std::os::unix::fs::FileExt as _;

const LONG: &str = "t: {uses: fake_train, with: {iterations: 4000, step_seconds: 0.01}}";

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

/// Its log says that it is another host's: no process of this one is signalled, and it hears all the same.
#[test]
fn stop_reaches_a_run_of_another_host() {
    let space = TestSpace::new();
    space.recipe("r.yaml", LONG);
    let run = space.start(&["run", "r.yaml"]);
    space.wait_for("checkpointed", |_| true);
    let log = space.path(".opdflow/runs/latest/events.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    let id = space.events_of("run_started")[0]["host_id"].as_str().unwrap().to_owned();
    let file = std::fs::File::options().write(true).open(&log).unwrap();
    // In its place: the run writes on at the end.
    let at = text.find(&id).unwrap() as u64;
    file.write_all_at("x".repeat(id.len()).as_bytes(), at).unwrap();
    let said = space.run(&["stop", "--wait"]).expect(0).stderr;
    let host = space.events_of("run_started")[0]["host"].as_str().unwrap().to_owned();
    assert!(said.contains(&format!("(process {} on {host}) to stop", run.id())), "{said}");
    finish(run).expect(75);
}
