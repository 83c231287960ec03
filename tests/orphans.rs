//! Stages that outlive the process of their run: they are seen, and they can be stopped.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, catches, finish, pid, signal, wait_until};
use serde_json::json;

const LONG: &str = "t: {uses: fake_train, with: {iterations: 4000, step_seconds: 0.01}}
    u: {uses: fake_train, seed: 1, with: {iterations: 4000, step_seconds: 0.01}}
    end: {uses: fake_report, needs: {parts: {t: t.model, u: u.model}}}";

/// A run of which only the stages are left, with their processes.
fn orphaned() -> (TestSpace, Vec<i32>) {
    let space = TestSpace::new();
    space.recipe("r.yaml", LONG);
    let run = space.start(&["run", "r.yaml", "-j", "2"]);
    for stage in ["t", "u"] {
        space.wait_for("checkpointed", |e| e["stage"] == stage);
        space.wait_for("progress", |e| e["stage"] == stage && e["step"].as_u64() > Some(10));
    }
    let children = space.children();
    assert_eq!(children.len(), 2);
    signal(pid(&run), libc::SIGKILL);
    finish(run);
    wait_until("the stages listen to signals", || children.iter().all(|c| catches(*c, libc::SIGTERM)));
    (space, children)
}

#[test]
fn status_shows_them_and_stop_stops_them() {
    let (space, children) = orphaned();
    let seen = space.run(&["status", "--json"]).expect(0).json();
    assert_eq!((&seen["state"], &seen["alive"]), (&json!("died"), &json!(false)));
    for (stage, child) in ["t", "u"].iter().zip(&children) {
        assert_eq!(seen["stages"][stage]["state"], json!("running"), "{seen}");
        assert_eq!(seen["stages"][stage]["seconds_left"], json!(null), "{seen}");
        assert!(children.iter().any(|c| seen["stages"][stage]["pid"] == json!(c)), "{seen} {child}");
    }
    let text = space.run(&["status"]).expect(0).stdout;
    assert!(text.contains("2 of its stages are still at work: `opdflow stop`"), "{text}");
    assert!(!text.contains("left"), "{text}");
    let watch = space.run(&["watch"]).expect(1).stderr;
    assert!(watch.contains("2 of its stages are still at work"), "{watch}");

    let stopped = space.run(&["stop", "--wait", "--json"]).expect(0).json();
    assert_eq!(stopped["asked"], json!(true));
    assert_eq!(stopped["stages"].as_object().map(serde_json::Map::len), Some(2), "{stopped}");
    assert!(space.children().is_empty());
    // They had time for a checkpoint, from which the same command goes on.
    let log = space.run(&["logs", "t"]).expect(0).stdout;
    assert!(!log.contains("failed"), "{log}");
    let plan = space.run(&["plan", "r.yaml"]).expect(0).stdout;
    assert!(plan.contains("resume"), "{plan}");
    let text = space.run(&["status"]).expect(0).stdout;
    assert!(text.contains("gone") && !text.contains("still at work") && !text.contains(" left"), "{text}");
    assert!(space.run(&["stop"]).expect(0).stderr.contains("has ended already"));
}

#[test]
fn stop_now_ends_them_at_once() {
    let (space, _) = orphaned();
    let said = space.run(&["stop", "--now", "--wait"]).expect(0).stderr;
    assert!(said.contains("ended at once") && said.contains("t (process "), "{said}");
    assert!(space.children().is_empty());
}

/// A process that has the number of a stage's by now is left alone.
#[test]
fn strangers_are_left_alone() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "t: {uses: fake_train, with: {iterations: 4000, step_seconds: 0.01}}");
    let run = space.start(&["run", "r.yaml"]);
    space.wait_for("checkpointed", |_| true);
    let child = space.children()[0];
    signal(pid(&run), libc::SIGKILL);
    signal(child, libc::SIGKILL);
    finish(run);
    wait_until("the stage is gone", || space.children().is_empty());
    let mut stranger = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let log = space.path(".opdflow/runs/latest/events.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replace(&format!("\"pid\":{child},"), &format!("\"pid\":{},", stranger.id()))).unwrap();
    let seen = space.run(&["status", "--json"]).expect(0).json();
    assert_eq!(seen["stages"]["t"]["state"], json!("gone"), "{seen}");
    space.run(&["stop", "--now", "--wait"]).expect(0);
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}
