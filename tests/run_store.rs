//! `du`, `gc`, `verify`, `pin` and `unpin` with the real program.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, files};
use serde_json::json;

const CHAIN: &str = "
    a: {uses: fake_source, with: {value: 3}}
    sum: {uses: fake_sum, needs: {terms: {a: a.value}}, with: {plus: 1}}
    train: {uses: fake_train, needs: {base: sum.value}, with: {iterations: 6}}
    report: {uses: fake_report, needs: {parts: {t: train.model}}}
";

fn ran() -> TestSpace {
    let space = TestSpace::new();
    space.recipe("r.yaml", CHAIN);
    space.run(&["run", "r.yaml"]).expect(0);
    space
}

fn hits(space: &TestSpace) -> usize {
    let plan = space.run(&["plan", "r.yaml", "--json"]).expect(0).json();
    plan["stages"].as_array().unwrap().iter().filter(|s| s["verdict"] == "hit").count()
}

/// A tool that is not there stops a run before anything starts, but only where there is something to run.
#[test]
fn what_the_machine_lacks_is_said_before_the_run() {
    let space = TestSpace::new();
    let tool = space.path("tool");
    space.write("tool", "");
    space.recipe(
        "r.yaml",
        &format!("a: {{uses: fake_source, with: {{value: 3, tool: {:?}}}}}\nb: {{uses: fake_sum, needs: {{terms: {{a: a.value}}}}}}", tool),
    );
    std::fs::remove_file(&tool).unwrap();
    let said = space.run(&["run", "r.yaml"]).expect(2).stderr;
    assert!(said.contains("E051") && said.contains("r.yaml:5:"), "{said}");
    assert!(files(&space.store().join("actions")).is_empty());
    let plan = space.run(&["plan", "r.yaml", "--json"]).expect(2).json();
    assert_eq!((&plan["stages"][0]["verdict"], &plan["stages"][1]["verdict"]), (&json!("missing"), &json!("blocked")));
    space.write("tool", "");
    space.run(&["run", "r.yaml"]).expect(0);
    std::fs::remove_file(&tool).unwrap();
    space.run(&["run", "r.yaml"]).expect(0);
    assert_eq!(hits(&space), 2);
}

#[test]
fn du_says_what_takes_the_room() {
    let space = ran();
    let all = space.run(&["du", "--json"]).expect(0).json();
    assert_eq!(all["kinds"]["fake_train"]["results"], json!(1));
    assert_eq!(all["parts"]["actions"]["files"], json!(4));
    let text = space.run(&["du"]).expect(0).stdout;
    assert!(text.contains("fake_train") && text.contains("blobs"), "{text}");
}

#[test]
fn gc_keeps_what_a_recorded_run_names_and_what_is_young() {
    let space = ran();
    let before = files(&space.store().join("actions")).len();
    // Everything is young, then everything is named by a run, then nobody names it.
    space.run(&["gc", "--unused", "--delete"]).expect(0);
    space.run(&["gc", "--unused", "--grace", "0", "--delete"]).expect(0);
    assert_eq!((files(&space.store().join("actions")).len(), hits(&space)), (before, 4));
    let said = space.run(&["gc", "--unused", "--grace", "0", "--run-dir", "elsewhere"]).expect(0).stdout;
    assert!(said.contains("would go: 4 results") && said.contains("--delete"), "{said}");
    assert!(said.contains("train (fake_train)"), "{said}");
    assert_eq!(hits(&space), 4);
    let report =
        space.run(&["gc", "--unused", "--grace", "0", "--run-dir", "elsewhere", "--delete", "--json"]).expect(0).json();
    assert_eq!((&report["dry_run"], &report["kept_actions"]), (&json!(false), &json!(0)));
    assert_eq!(hits(&space), 0);
    assert!(files(&space.store().join("blobs")).is_empty());
    space.run(&["run", "r.yaml"]).expect(0);
}

#[test]
fn gc_waits_for_nobody_and_takes_nothing_from_under_a_run() {
    let space = TestSpace::new();
    space.recipe("long.yaml", "t: {uses: fake_train, with: {iterations: 4000, step_seconds: 0.01}}");
    let run = space.start(&["run", "long.yaml"]);
    space.wait_for("checkpointed", |_| true);
    space.run(&["gc", "--delete"]).expect(3);
    space.run(&["gc"]).expect(0);
    space.run(&["stop", "--wait"]).expect(0);
    common::finish(run);
    space.run(&["gc", "--delete"]).expect(0);
}

#[test]
fn a_log_that_cannot_be_read_stops_a_sweep() {
    let space = ran();
    std::fs::write(
        space.path(".opdflow/runs/latest/events.jsonl"),
        "{\"at\":1,\"event\":{\"run_started\":{\"format\":9}}}\n",
    )
    .unwrap();
    let ran = space.run(&["gc", "--unused", "--grace", "0", "--delete"]).expect(3);
    assert!(ran.stderr.contains("nothing was swept"), "{}", ran.stderr);
    assert_eq!(hits(&space), 4);
}

#[test]
fn pins_keep_a_stage_and_all_it_stands_on() {
    let space = ran();
    space.run(&["pin", "r.yaml", "train"]).expect(0);
    let sweep = ["gc", "--unused", "--grace", "0", "--run-dir", "elsewhere", "--delete"];
    space.run(&sweep).expect(0);
    assert_eq!(hits(&space), 3);
    assert_eq!(space.run(&["pin"]).expect(0).stdout.lines().count(), 3);
    assert!(space.run(&["pin", "r.yaml"]).expect(2).stderr.contains("`report` has no result"));
    space.run(&["unpin", "test"]).expect(0);
    assert_eq!(space.run(&["pin", "--json"]).expect(0).json(), json!({}));
    space.run(&["unpin", "test"]).expect(2);
    space.run(&sweep).expect(0);
    assert_eq!(hits(&space), 0);
}

#[test]
fn verify_finds_what_rotted_and_the_next_run_heals_it() {
    let space = ran();
    assert!(space.run(&["verify", "--deep"]).expect(0).stdout.contains("the store is whole"));
    let blob = space.blobs("4").into_iter().next().expect("the sum");
    space.damage(&blob, b"5");
    // Sizes alone do not show it.
    space.run(&["verify"]).expect(0);
    let found = space.run(&["verify", "--deep"]).expect(3);
    assert!(found.stdout.contains("damaged: ") && found.stdout.contains("moved to"), "{}", found.stdout);
    space.run(&["run", "r.yaml"]).expect(0);
    assert_eq!(space.run(&["verify", "--deep", "--json"]).expect(0).json()["damage"], json!([]));
    assert_eq!(hits(&space), 4);
}

#[test]
fn one_of_two_differing_results_is_chosen() {
    let space = ran();
    let ran = space.run(&["pin", "r.yaml", "sum", "--attempt", "2"]).expect(2);
    assert!(ran.stderr.contains("one result only"), "{}", ran.stderr);
    // A file that changed behind the key's back: the one way for a fake stage to give something else.
    let job = space.path("clock");
    std::fs::write(&job, "1").unwrap();
    space.recipe("clock.yaml", "c: {uses: fake_clock}");
    space.run(&["run", "clock.yaml"]).expect(0);
    std::fs::write(&job, "2").unwrap();
    let again = space.run(&["run", "clock.yaml", "--force", "c"]).expect(0);
    let said = "kept as attempt 2 (value: 1 of 1 numbers, by 1.000e0 at the most, 1.000e0 relative)";
    assert!(again.stderr.contains(said), "{}", again.stderr);
    let value = |space: &TestSpace| space.run(&["get", "clock.yaml", "c.value", "-o", "-"]).expect(0).stdout;
    assert_eq!(value(&space), "1");
    space.run(&["pin", "clock.yaml", "c", "--attempt", "2"]).expect(0);
    assert_eq!(value(&space), "2");
    assert!(space.run(&["pin", "clock.yaml", "c", "--attempt", "7"]).expect(2).stderr.contains("choose from 2"));
}
