//! What one can ask of runs and results: `get` and `status`, with the real program.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, finish, pid, signal};
use serde_json::json;

fn space() -> TestSpace {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        "a: {uses: fake_source, with: {value: 41}}
        sum: {uses: fake_sum, needs: {terms: {a: a.value}}, with: {plus: 1}}
        train: {uses: fake_train, needs: {base: sum.value}, with: {iterations: 8, step_seconds: 0.01}}",
    );
    space
}

#[test]
fn get_writes_a_file_and_a_folder() {
    let space = space();
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&["get", "r.yaml", "sum.value", "-o", "out/sum.txt"]).expect(0);
    assert_eq!(std::fs::read_to_string(space.path("out/sum.txt")).unwrap(), "42");
    space.run(&["get", "r.yaml", "train.candidates", "-o", "candidates"]).expect(0);
    assert_eq!(common::files(&space.path("candidates")).len(), 4);
    let printed = space.run(&["get", "r.yaml", "sum.value", "-o", "-"]).expect(0);
    assert_eq!((printed.stdout.as_str(), printed.stderr.as_str()), ("42", ""));
    space.run(&["get", "r.yaml", "train.candidates", "-o", "-"]).expect(2);
}

#[test]
fn get_overwrites_only_when_told() {
    let space = space();
    space.run(&["run", "r.yaml"]).expect(0);
    space.write("there", "mine");
    let ran = space.run(&["get", "r.yaml", "sum.value", "-o", "there"]).expect(2);
    assert!(ran.stderr.contains("--overwrite"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(space.path("there")).unwrap(), "mine");
    space.run(&["get", "r.yaml", "sum.value", "-o", "there", "--overwrite"]).expect(0);
    assert_eq!(std::fs::read_to_string(space.path("there")).unwrap(), "42");
    // A folder with the user's own work is never swapped for a file, nor the ground pulled from under their feet.
    std::fs::create_dir(space.path("folder")).unwrap();
    space.run(&["get", "r.yaml", "sum.value", "-o", "folder", "--overwrite"]).expect(2);
    space.run(&["get", "r.yaml", "train.candidates", "-o", ".", "--overwrite"]).expect(2);
    space.run(&["get", "r.yaml", "train.candidates", "-o", "folder", "--overwrite"]).expect(0);
    assert_eq!(common::files(&space.path("folder")).len(), 4);
    assert!(space.path("r.yaml").is_file());
}

#[test]
fn get_says_what_is_missing() {
    let space = space();
    let ran = space.run(&["get", "r.yaml", "train.model", "-o", "x"]).expect(2);
    assert!(ran.stderr.contains("opdflow run r.yaml --until train"), "{}", ran.stderr);
    assert!(ran.stderr.contains("because `a` has none"), "{}", ran.stderr);
    for (wrong, help) in
        [("trian.model", "`train`"), ("train.modle", "`model`"), ("train", "`train.candidates`"), ("nonsense", "`sum`")]
    {
        let ran = space.run(&["get", "r.yaml", wrong, "-o", "x"]).expect(2);
        assert!(ran.stderr.contains(help), "{wrong}: {}", ran.stderr);
    }
    assert!(!space.path("x").exists());
}

#[test]
fn status_shows_a_finished_run() {
    let space = space();
    space.run(&["status"]).expect(2);
    let ran = space.run(&["run", "r.yaml", "--json"]).expect(0);
    let status = space.run(&["status", "--json"]).expect(0).json();
    assert_eq!(status["run"], ran.json()["run"]);
    assert_eq!((&status["state"], &status["alive"], &status["ok"]), (&json!("complete"), &json!(false), &json!(true)));
    let train = &status["stages"]["train"];
    assert_eq!((&train["state"], &train["step"], &train["total"]), (&json!("run"), &json!(8), &json!(8)));
    assert_eq!(train["metrics"]["loss"]["step"], json!(8));
    let text = space.run(&["status", ran.json()["run"].as_str().unwrap()]).expect(0).stdout;
    assert!(text.contains("complete") && text.contains("8/8") && text.contains("loss"), "{text}");
    space.run(&["status", "no-such-run"]).expect(2);
}

#[test]
fn status_tells_a_living_run_from_a_dead_one() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "t: {uses: fake_train, with: {iterations: 400, step_seconds: 0.02}}");
    let run = space.start(&["run", "r.yaml"]);
    space.wait_for("checkpointed", |_| true);
    let status = space.run(&["status", "--json"]).expect(0).json();
    assert_eq!((&status["state"], &status["alive"]), (&json!("running"), &json!(true)));
    assert_eq!(status["pid"], json!(run.id()));
    assert_eq!(status["stages"]["t"]["state"], json!("running"));
    signal(pid(&run), libc::SIGKILL);
    finish(run);
    let status = space.run(&["status", "--json"]).expect(0).json();
    assert_eq!((&status["state"], &status["alive"], &status["ok"]), (&json!("died"), &json!(false), &json!(null)));
    space.children().into_iter().for_each(|c| signal(c, libc::SIGKILL));
}
