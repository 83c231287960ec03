//! A store that was filled before versions of the code were in keys: all of it stays readable, nothing of it is a hit, and
//! `explain` says why.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use opdflow::plan::key;
use opdflow_cache::{Digest, Store};
use serde_json::Value;

const STAGES: &str = "
a: {uses: fake_source, with: {value: 4}}
sum: {uses: fake_sum, needs: {terms: {a: a.value}}, with: {plus: 1}}
train: {uses: fake_train, needs: {base: sum.value}, with: {iterations: 4}}
";

/// A run whose records and log are as a program of before left them: the manifest in format 1, which has no `code`, and the
/// keys that follow from it.
fn of_then() -> TestSpace {
    let space = TestSpace::new();
    space.recipe("r.yaml", STAGES);
    space.run(&["run", "r.yaml"]).expect(0);
    let store = Store::open(&space.store()).unwrap();
    let records: Vec<_> = store.actions().collect();
    assert_eq!(records.len(), 3);
    let log = space.path(".opdflow/runs/latest/events.jsonl");
    let mut events = std::fs::read_to_string(&log).unwrap();
    for record in records {
        let mut old = record.clone();
        let manifest = old.manifest.as_object_mut().unwrap();
        assert!(manifest.remove("code").is_some());
        manifest.insert("format".into(), 1.into());
        for fact in ["sizes", "operations", "cpu_seconds", "threads"] {
            old.note.remove(fact);
        }
        old.key = key::of_manifest(&old.manifest).expect("a manifest of before is one of ours");
        old.lineage = Digest::of(old.key.to_string().as_bytes());
        assert_ne!(old.key, record.key);
        let at = record.key.to_string();
        std::fs::remove_file(space.store().join("actions").join(&at[..2]).join(format!("{at}.json"))).unwrap();
        events = events.replace(&at, &old.key.to_string());
        store.publish(&old).unwrap();
    }
    std::fs::write(&log, events).unwrap();
    std::fs::remove_dir_all(space.store().join("checkpoints")).unwrap();
    space
}

fn key_of(space: &TestSpace, stage: &str) -> String {
    let store = Store::open(&space.store()).unwrap();
    store.actions().find(|r| r.note["stage"] == stage).unwrap().key.to_string()
}

#[test]
fn nothing_is_a_hit_and_explain_says_why() {
    let space = of_then();
    let plan = space.run(&["plan", "r.yaml", "--json"]).expect(0).json();
    let verdicts: Vec<&str> =
        plan["stages"].as_array().unwrap().iter().map(|s| s["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["run", "maybe", "maybe"]);
    let text = space.run(&["explain", "r.yaml", "a"]).expect(0).stdout;
    assert!(text.contains("format") && text.contains("before versions of code were in keys"), "{text}");
    assert!(!text.contains("code.") && text.lines().count() == 3, "one reason, and no other: {text}");
    let json = space.run(&["explain", "r.yaml", "train", "--json"]).expect(0).json();
    assert_eq!(json["changes"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["nearest"]["stage"], "train");
}

#[test]
fn all_of_it_stays_readable() {
    let space = of_then();
    let (sum, train) = (key_of(&space, "sum"), key_of(&space, "train"));
    // By the recipe it is not found, and the way to it is said; by its key it is.
    let refused = space.run(&["get", "r.yaml", "sum.value", "-o", "x"]).expect(2).stderr;
    assert!(refused.contains(&format!("opdflow get {} value -o PATH", &sum[..12])), "{refused}");
    space.run(&["get", &sum[..12], "value", "-o", "x"]).expect(0);
    assert_eq!(std::fs::read_to_string(space.path("x")).unwrap(), "5");
    assert!(space.run(&["get", &sum[..12], "nothing", "-o", "y"]).expect(2).stderr.contains("`value`"));
    assert!(space.run(&["get", "0123456789ab", "value", "-o", "y"]).expect(2).stderr.contains("0 results"));
    // Where it came from, by bytes and by key.
    space.run(&["get", &train[..12], "candidates", "-o", "folder"]).expect(0);
    for args in [&["lineage", "folder", "--json"][..], &["lineage", &train[..12], "candidates", "--json"]] {
        let stages = space.run(args).expect(0).json()["stages"].as_object().unwrap().len();
        assert_eq!(stages, 3, "{args:?}");
    }
    // To another machine's store.
    space.run(&["export", "-o", "all.tar"]).expect(0);
    let taken =
        space.run(&["--store", "other", "import", "all.tar", "--run-dir", "elsewhere", "--json"]).expect(0).json();
    assert_eq!(taken["new"].as_array().unwrap().len(), 3, "{taken}");
    // Whole, and kept.
    space.run(&["verify"]).expect(0);
    space.run(&["du"]).expect(0);
    space.run(&["gc"]).expect(0);
    let kept: Vec<Value> = Store::open(&space.store()).unwrap().actions().map(|r| r.manifest).collect();
    assert_eq!(kept.len(), 3);
    // The same work in the new program: other keys, the same bytes, and the old beside it.
    let again = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert!(again.verdicts().values().all(|v| v == "run"), "{:?}", again.verdicts());
    assert_eq!(Store::open(&space.store()).unwrap().actions().count(), 6);
    assert!(space.run(&["run", "r.yaml", "--json"]).expect(0).verdicts().values().all(|v| v == "hit"));
}

/// The time of a record that does not say what it was measured on is no measure of what is planned.
#[test]
fn its_times_are_not_taken_for_anything() {
    let space = of_then();
    let plan = space.run(&["plan", "r.yaml", "--json"]).expect(0).json();
    let train = &plan["stages"][2];
    assert_eq!(
        (train["stage"].as_str(), &train["seconds"], &train["seconds_from"]),
        (Some("train"), &Value::Null, &Value::Null)
    );
}

#[test]
fn another_version_of_the_code_misses_and_is_the_reason() {
    let space = TestSpace::new();
    space.recipe("r.yaml", STAGES);
    let run = |version: &str, args: &[&str]| {
        let out = space.command(args).env("OPDFLOW_FAKE_CODE", version).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    run("1", &["run", "r.yaml"]);
    assert!(run("1", &["plan", "r.yaml"]).contains("3 of 3 stages"));
    assert!(run("2", &["plan", "r.yaml"]).contains("0 of 3 stages"));
    let why = run("2", &["explain", "r.yaml", "a"]);
    assert!(why.contains("code.fake.numbers  1 -> 2") && why.contains("another version"), "{why}");
    let why = run("edited 0011", &["explain", "r.yaml", "a"]);
    assert!(why.contains("edited 0011") && why.contains("differ from the committed ones"), "{why}");
}

/// A result that lacks an output which its kind always leaves is told of, even where the input may stay open: nothing is computed as if it
/// were not connected.
#[test]
fn an_output_that_a_result_lacks_is_not_taken_for_none() {
    let space = TestSpace::new();
    space.recipe("r.yaml", STAGES);
    space.run(&["run", "r.yaml", "--until", "sum"]).expect(0);
    let store = Store::open(&space.store()).unwrap();
    let mut record = store.actions().find(|r| r.note["stage"] == "sum").unwrap();
    let at = record.key.to_string();
    std::fs::remove_file(space.store().join("actions").join(&at[..2]).join(format!("{at}.json"))).unwrap();
    assert!(record.outputs.remove("value").is_some());
    store.publish(&record).unwrap();
    let ran = space.run(&["run", "r.yaml"]).expect(1);
    assert!(
        ran.stderr.contains("`sum.value`") && ran.stderr.contains("though its kind always leaves it"),
        "{}",
        ran.stderr
    );
    let elsewhere = space.run(&["--store", "other", "run", "r.yaml", "--json"]).expect(0);
    assert_eq!(elsewhere.verdicts()["train"], "run");
}
