//! `check`, `plan`, `explain` and `stages` with the real program.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::{Value, json};

const RECIPE: &str = "opdflow: 1
name: test
seed: 3
vars: {iters: 8}
stages:
  a: {uses: fake_source, with: {value: 4}}
  sum:
    uses: fake_sum
    needs: {terms: {a: a.value}}
    with: {plus: 1}
  train:
    uses: fake_train
    needs: {base: sum.value}
    with: {iterations: \"${iters}\"}
  report: {uses: fake_report, needs: {parts: {t: train.model}}}
";

fn space() -> TestSpace {
    let space = TestSpace::new();
    space.write("r.yaml", RECIPE);
    space
}

/// `stage -> verdict` of a plan.
fn verdicts(space: &TestSpace, args: &[&str]) -> Vec<(String, String)> {
    let args: Vec<&str> = ["plan", "--json"].iter().chain(args).copied().collect();
    let plan = space.run(&args).expect(0).json();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    plan["stages"].as_array().unwrap().iter().map(|s| (text(&s["stage"]), text(&s["verdict"]))).collect()
}

fn words(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn check_finds_nothing_or_everything() {
    let space = space();
    assert_eq!(space.run(&["check", "r.yaml"]).expect(0).stdout, "r.yaml: 4 stages, no mistakes\n");
    assert_eq!(
        space.run(&["check", "r.yaml", "--json"]).expect(0).json(),
        json!({"path": "r.yaml", "errors": 0, "warnings": 0, "diagnostics": []})
    );
    space.write("bad.yaml", &RECIPE.replace("plus", "puls").replace("base: sum.value", "base: sun.value"));
    let ran = space.run(&["check", "bad.yaml"]).expect(2);
    assert!(ran.stdout.is_empty(), "{}", ran.stdout);
    insta::assert_snapshot!("check_bad", ran.stderr);
    let json = space.run(&["check", "bad.yaml", "--json"]).expect(2).json();
    assert_eq!(
        (&json["errors"], &json["diagnostics"][0]["code"], &json["diagnostics"][0]["line"]),
        (&json!(2), &json!("E040"), &json!(10))
    );
    assert!(space.run(&["check", "none.yaml"]).expect(2).stderr.contains("E001"));
    space.run(&["check"]).expect(2);
    space.run(&["check", "r.yaml", "--set", "iters"]).expect(2);
}

#[test]
fn warnings_do_not_stop_a_recipe() {
    let space = space();
    space.write("w.yaml", &format!("{RECIPE}  idle: {{uses: fake_source}}\n"));
    let ran = space.run(&["check", "w.yaml"]).expect(0);
    assert!(ran.stderr.contains("W001") && ran.stdout.contains("no errors"), "{ran:?}");
    assert!(space.run(&["check", "w.yaml", "--quiet"]).expect(0).stderr.is_empty());
}

#[test]
fn plan_tells_run_hit_resume_and_maybe() {
    let space = space();
    assert_eq!(
        verdicts(&space, &["r.yaml"]),
        words(&[("a", "run"), ("sum", "run"), ("train", "run"), ("report", "run")])
    );
    // In an empty store nothing can be a hit: what waits for others runs after them.
    assert!(space.run(&["plan", "r.yaml"]).expect(0).stdout.contains("run (after train)"));
    space.run(&["run", "r.yaml"]).expect(0);
    assert_eq!(
        verdicts(&space, &["r.yaml"]),
        words(&[("a", "hit"), ("sum", "hit"), ("train", "hit"), ("report", "hit")])
    );
    // Checkpoints of the shorter run serve the longer one; a shorter one still runs, from where it can.
    assert_eq!(
        verdicts(&space, &["r.yaml", "--set", "iters=20"]),
        words(&[("a", "hit"), ("sum", "hit"), ("train", "resume"), ("report", "maybe")])
    );
    assert_eq!(
        verdicts(&space, &["r.yaml", "--seed", "9"]),
        words(&[("a", "hit"), ("sum", "hit"), ("train", "run"), ("report", "maybe")])
    );
    let text = space.run(&["plan", "r.yaml", "--set", "iters=20"]).expect(0).stdout;
    let filters = vec![(r"[0-9a-f]{12}", "[key]"), (r"\d+\.\d+ s", "[s]"), (r"[0-9.]+ [kMGT]?B", "[bytes]")];
    insta::with_settings!({filters => filters}, {
        insta::assert_snapshot!("plan", text);
    });
}

#[test]
fn plan_tells_the_disk_that_results_will_take() {
    let space = space();
    let before = space.run(&["plan", "r.yaml", "--json"]).expect(0).json();
    assert!(
        before["stages"].as_array().unwrap().iter().all(|s| s["bytes"].is_null()),
        "nothing was ever run: {before}"
    );
    assert!(before["free"].as_u64().is_some_and(|b| b > 0), "{before}");
    space.run(&["run", "r.yaml"]).expect(0);
    let used = space.run(&["du", "--json"]).expect(0).json()["kinds"].clone();
    // Another seed is of the same sizes; of another length nothing is known that was not measured or counted.
    let after = space.run(&["plan", "r.yaml", "--set", "iters=20", "--json"]).expect(0).json();
    assert!(after["stages"].as_array().unwrap().iter().any(|s| s["kind"] == "fake_train" && s["bytes"].is_null()));
    let after = space.run(&["plan", "r.yaml", "--seed", "9", "--json"]).expect(0).json();
    for stage in after["stages"].as_array().unwrap() {
        let kind = stage["kind"].as_str().unwrap();
        let expected = if stage["verdict"] == "hit" { json!(0) } else { used[kind]["bytes"].clone() };
        assert_eq!(stage["bytes"], expected, "{stage}");
    }
}

#[test]
fn plan_has_an_exit_code_for_scripts() {
    let space = space();
    space.run(&["plan", "r.yaml"]).expect(0);
    space.run(&["plan", "r.yaml", "--exit-code"]).expect(10);
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&["plan", "r.yaml", "--exit-code"]).expect(0);
    space.run(&["plan", "r.yaml", "--exit-code", "--set", "iters=20"]).expect(10);
    space.run(&["plan", "none.yaml", "--exit-code"]).expect(2);
}

#[test]
fn graph_draws_lines_dot_and_json() {
    let space = space();
    insta::assert_snapshot!("graph", space.run(&["graph", "r.yaml"]).expect(0).stdout);
    insta::assert_snapshot!("graph_dot", space.run(&["graph", "r.yaml", "--format", "dot"]).expect(0).stdout);
    let data = space.run(&["graph", "r.yaml", "--json"]).expect(0).json();
    assert_eq!(data["edges"][0], json!({"from": "a", "to": "sum", "outputs": ["value"]}));
    assert_eq!(data["stages"][3]["depth"], json!(3));
    assert!(!space.store().exists(), "a drawing looks into no store");
    let svg = space.run(&["graph", "r.yaml", "--format", "svg"]).expect(0).stdout;
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert_eq!((svg.matches("<rect ").count(), svg.matches("marker-end").count()), (4, 3), "{svg}");
    assert_eq!(svg, space.run(&["graph", "r.yaml", "--format", "svg"]).expect(0).stdout);
}

#[test]
fn help_knows_codes_and_commands() {
    let space = space();
    assert_eq!(
        space.run(&["help", "e012"]).expect(0).stdout,
        "E012 (the shape): a value of another type\nway out: found and expected are named\n"
    );
    assert!(space.run(&["help", "75"]).expect(0).stdout.contains("run again to go on"));
    assert!(space.run(&["help", "explain"]).expect(0).stdout.contains("opdflow explain"));
    assert!(space.run(&["help"]).expect(0).stdout.contains("completions"));
    assert_eq!(space.run(&["help", "E020", "--json"]).expect(0).json()["section"], "Variables");
    assert!(space.run(&["help", "E0122"]).expect(2).stderr.contains("did you mean"));
    assert!(space.run(&["help", "nonsense"]).expect(2).stderr.contains("commands are"));
}

#[test]
fn shells_can_complete_our_commands() {
    let space = space();
    for shell in ["bash", "zsh", "fish"] {
        let script = space.run(&["completions", shell]).expect(0).stdout;
        assert!(
            script.contains("opdflow") && script.contains("checkpoint-seconds") && !script.contains("____stage"),
            "{shell}"
        );
    }
    space.run(&["completions", "cmd"]).expect(2);
}

#[test]
fn plan_sees_outputs_that_are_gone() {
    let space = space();
    space.run(&["run", "r.yaml"]).expect(0);
    for blob in space.blobs("5") {
        std::fs::remove_file(blob).unwrap();
    }
    assert_eq!(
        verdicts(&space, &["r.yaml"]),
        words(&[("a", "hit"), ("sum", "run"), ("train", "maybe"), ("report", "maybe")])
    );
    assert!(space.run(&["explain", "r.yaml", "sum"]).expect(0).stdout.contains("damaged or gone"));
}

#[test]
fn work_stops_where_a_re_run_stage_gives_the_same_bytes() {
    let space = space();
    space.run(&["run", "r.yaml"]).expect(0);
    space.write("r.yaml", &RECIPE.replace("value: 4", "value: 3").replace("plus: 1", "plus: 2"));
    space.run(&["run", "r.yaml", "--until", "sum"]).expect(0);
    assert_eq!(
        verdicts(&space, &["r.yaml"]),
        words(&[("a", "hit"), ("sum", "hit"), ("train", "hit"), ("report", "hit")])
    );
}

#[test]
fn explain_names_the_field_and_its_place() {
    let space = space();
    let explain = |stage: &str, more: &[&str]| {
        let args: Vec<&str> = ["explain", "r.yaml", stage].iter().chain(more).copied().collect();
        space.run(&args).expect(0).stdout
    };
    let filters = vec![(r"[0-9a-f]{12}", "[key]"), (r"\d{4}-\d\d-\d\dT[\d:]+Z", "[time]"), (r"\d+\.\d s", "[s]")];
    insta::with_settings!({filters => filters}, {
        insta::assert_snapshot!("explain_new", explain("a", &[]));
        space.run(&["run", "r.yaml"]).expect(0);
        insta::assert_snapshot!("explain_hit", explain("train", &[]));
        insta::assert_snapshot!("explain_command_line", explain("train", &["--set", "iters=20", "--seed", "4"]));
        insta::assert_snapshot!("explain_waits", explain("report", &["--set", "iters=20"]));
        space.write("r.yaml", &RECIPE.replace("plus: 1", "plus: 2, modulo: 7").replace("\"${iters}\"", "\"${iters}\", algorithm: {noisy: {rate: 1, noise: 0.5}}"));
        insta::assert_snapshot!("explain_params", explain("sum", &[]));
        space.run(&["run", "r.yaml", "--until", "sum"]).expect(0);
        insta::assert_snapshot!("explain_inputs", explain("train", &[]));
    });
    let json = space.run(&["explain", "r.yaml", "train", "--json"]).expect(0).json();
    assert_eq!(json["changes"].as_array().map(Vec::len), Some(4), "{json}");
    assert!(space.run(&["explain", "r.yaml", "trian"]).expect(2).stderr.contains("did you mean `train`?"));
}

#[test]
fn stages_lists_kinds() {
    let space = space();
    insta::assert_snapshot!("stages", space.run(&["stages", "fake_sum"]).expect(0).stdout);
    // A line for each, and all that is known of them on request.
    let list = space.run(&["stages"]).expect(0).stdout;
    assert!(list.lines().any(|l| l.starts_with("fake_sum ")));
    assert!(list.lines().count() < 40 && !list.contains("modulo"), "{list}");
    assert!(space.run(&["stages", "--all"]).expect(0).stdout.contains("modulo"));
    space.run(&["stages", "fake_sum", "--all"]).expect(2);
    let all = space.run(&["stages", "--json"]).expect(0).json();
    assert!(all.as_array().unwrap().iter().any(|k| k["kind"] == "fake_train"));
    assert!(space.run(&["stages", "fake_smu"]).expect(2).stderr.contains("did you mean `fake_sum`?"));
}

#[test]
fn the_schema_names_the_kinds_of_the_build() {
    let text = space().run(&["schema"]).expect(0).stdout;
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(schema["$defs"]["fake_sum"]["properties"]["plus"]["type"], json!(["integer", "string"]));
    assert_eq!(schema["properties"]["defaults"]["properties"]["fake_sum"]["$ref"], "#/$defs/fake_sum");
}

#[test]
fn manual_pages_are_printed() {
    let space = space();
    let whole = space.run(&["man"]).expect(0).stdout;
    assert!(whole.contains(".TH opdflow 1") && whole.contains("explain") && !whole.contains("__stage"), "{whole}");
    let run = space.run(&["man", "run"]).expect(0).stdout;
    assert!(run.contains(".TH opdflow") && run.contains("fail"), "{run}");
    assert!(space.run(&["man", "rnu"]).expect(2).stderr.contains("did you mean `run`?"));
}

#[test]
fn a_store_that_cannot_be_is_the_store_s_fault() {
    let space = space();
    space.write("file", "not a folder");
    let ran = space.run(&["plan", "r.yaml", "--store", "file"]).expect(3);
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
    assert_eq!(space.run(&["plan", "r.yaml", "--store", "file", "--json"]).expect(3).json()["error"], "store");
}

#[test]
fn nobody_reading_is_no_error() {
    let space = space();
    let mut child = space.start(&["stages"]);
    drop(child.stdout.take());
    let ran = common::finish(child);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}
