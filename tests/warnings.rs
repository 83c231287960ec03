//! Warnings with the real program: each told once with its count, in every view, and again by a later hit; `--strict`.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::{Value, json};

fn space(with: &str) -> TestSpace {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        &format!(
            "w: {{uses: fake_warn, with: {{{with}}}}}\nend: {{uses: fake_report, needs: {{parts: {{w: w.value}}}}}}"
        ),
    );
    space
}

/// The lines that hold `words`.
fn lines<'t>(text: &'t str, words: &str) -> Vec<&'t str> {
    text.lines().filter(|l| l.contains(words)).collect()
}

#[test]
fn each_is_told_once_with_its_count_in_every_view() {
    let space = space("rounds: 6, flat: [0, 2, 3], zeros: 2");
    let expected = json!([
        {"code": "W022", "message": "a thing is zero", "count": 2},
        {"code": "W020", "message": "a round was flat", "count": 3},
    ]);
    for verdict in ["run", "hit"] {
        let ran = space.run(&["run", "r.yaml", "--json"]).expect(0);
        assert_eq!(ran.verdicts()["w"], verdict);
        assert_eq!(ran.json()["stages"]["w"]["warnings"], expected, "{verdict}");
        assert_eq!(ran.json()["stages"]["end"]["warnings"], json!([]));
        // Once when it is found, once in the summary at the end, there with the whole count.
        let live = lines(&ran.stderr, " warning w  W020: a round was flat");
        assert_eq!(live.len(), 1, "{}", ran.stderr);
        assert_eq!(live[0].contains("(3 times)"), verdict == "hit", "{}", ran.stderr);
        assert_eq!(lines(&ran.stderr, "  w  W020: a round was flat (3 times)").len(), 1, "{}", ran.stderr);
        assert_eq!(lines(&ran.stderr, "2 warnings").len(), 1, "{}", ran.stderr);
        // The run log: a line when it is found, and one with the last count where that is larger.
        let logged = space.events_of("warning");
        let flat: Vec<&Value> = logged.iter().filter(|w| w["code"] == "W020").collect();
        let counts: Vec<u64> = flat.iter().map(|w| w["count"].as_u64().unwrap()).collect();
        assert_eq!(counts, if verdict == "run" { vec![1, 3] } else { vec![3] });
        assert_eq!(
            flat.iter().map(|w| w["again"] == true).collect::<Vec<_>>(),
            counts.iter().map(|c| verdict == "run" && *c == 3).collect::<Vec<_>>()
        );
        let status = space.run(&["status"]).expect(0).stdout;
        assert_eq!(lines(&status, "warning  W020: a round was flat (3 times)").len(), 1, "{status}");
        assert_eq!(space.run(&["status", "--json"]).expect(0).json()["stages"]["w"]["warnings"], expected);
        let watched = space.run(&["watch", "--plain"]).expect(0).stderr;
        assert_eq!(lines(&watched, " warning w  W022: a thing is zero (2 times)").len(), 1, "{watched}");
        let quiet = space.run(&["run", "r.yaml", "--quiet"]).expect(0).stderr;
        assert!(quiet.contains("W022"), "{quiet}");
    }
    let log = space.run(&["logs", "w"]).expect(0).stdout;
    assert_eq!(
        lines(&log, "warning W020: a round was flat"),
        ["warning W020: a round was flat", "warning W020: a round was flat (3 times)"]
    );
    assert_eq!(lines(&log, "warning W022: a thing is zero (2 times)").len(), 1, "{log}");
}

#[test]
fn a_longer_run_goes_on_with_the_counts_of_the_shorter() {
    let space = space("rounds: \"${n}\", flat: [0, 3], zeros: 1");
    let text = std::fs::read_to_string(space.path("r.yaml")).unwrap();
    space.write("r.yaml", &text.replace("seed: 7", "seed: 7\nvars: {n: 2}"));
    let count = |ran: &common::Ran| ran.json()["stages"]["w"]["warnings"][1]["count"].clone();
    assert_eq!(count(&space.run(&["run", "r.yaml", "--json"]).expect(0)), 1);
    let ran = space.run(&["run", "r.yaml", "--json", "--set", "n=5"]).expect(0);
    assert_eq!((ran.verdicts()["w"].as_str(), count(&ran)), ("resumed", json!(2)));
}

#[test]
fn strict_takes_those_of_a_stage_for_errors_and_loses_nothing() {
    let space = space("rounds: 40, flat: [2], step_seconds: 0.02");
    let ran = space.run(&["run", "r.yaml", "--json", "--strict"]).expect(1);
    assert_eq!((ran.verdicts()["w"].as_str(), ran.verdicts()["end"].as_str()), ("failed", "blocked"));
    let message = ran.json()["stages"]["w"]["message"].to_string();
    assert!(message.contains("W020: a round was flat") && message.contains("`--strict`"), "{message}");
    assert!(!space.events_of("checkpointed").is_empty());
    // What was done is used.
    let ran = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!(ran.verdicts()["w"], "resumed");
    // A result with a warning is none for a strict run, and stays in the store.
    let ran = space.run(&["run", "r.yaml", "--json", "--strict"]).expect(1);
    assert_eq!(ran.verdicts()["w"], "failed");
    assert!(space.events_of("started").is_empty());
    assert_eq!(space.run(&["run", "r.yaml", "--json"]).expect(0).verdicts()["w"], "hit");
}

#[test]
fn what_is_known_before_a_run_is_a_warning_of_check_and_plan_and_of_the_run() {
    let space = space("rounds: 1, doubt: 3");
    let check = space.run(&["check", "r.yaml"]).expect(0);
    for part in ["warning[W015]: stage `w`: a thing is doubtful (3 times)", "r.yaml:5:", "take it out", "1 warning"] {
        assert!(check.stderr.contains(part), "no `{part}` in {}", check.stderr);
    }
    assert!(check.stdout.contains("no errors"), "{}", check.stdout);
    assert_eq!(space.run(&["check", "r.yaml", "--json"]).expect(0).json()["diagnostics"][0]["code"], "W015");
    assert_eq!(space.run(&["plan", "r.yaml", "--json"]).expect(0).json()["warnings"][0]["code"], "W015");
    assert!(space.run(&["plan", "r.yaml"]).expect(0).stderr.contains("warning[W015]"));
    for command in ["check", "plan", "run"] {
        let ran = space.run(&[command, "r.yaml", "--strict"]).expect(2);
        assert!(ran.stderr.contains("error[W015]") && ran.stderr.contains("1 error"), "{}", ran.stderr);
    }
    assert!(!space.path(".opdflow").exists(), "nothing was run");
    for verdict in ["run", "hit"] {
        let ran = space.run(&["run", "r.yaml", "--json"]).expect(0);
        assert_eq!(ran.verdicts()["w"], verdict);
        assert_eq!(
            ran.json()["stages"]["w"]["warnings"],
            json!([{"code": "W015", "message": "a thing is doubtful", "count": 3}])
        );
        assert_eq!(lines(&ran.stderr, " warning w  W015").len(), 1, "{}", ran.stderr);
    }
    let log = space.run(&["logs", "w"]).expect(0).stdout;
    assert_eq!(lines(&log, "warning W015").len(), 1, "{log}");
    // Of what is not asked for nobody is warned.
    space.recipe("r.yaml", "w: {uses: fake_warn, with: {rounds: 2, doubt: 1}}\nother: {uses: fake_source}");
    let ran = space.run(&["run", "r.yaml", "--until", "other", "--strict"]).expect(0);
    assert!(!ran.stderr.contains("W015"), "{}", ran.stderr);
}

#[test]
fn warnings_of_the_recipe_are_errors_too_if_asked_for() {
    let space = TestSpace::new();
    space.write(
        "r.yaml",
        "opdflow: 1\nname: r\ndefaults: {fake_train: {iterations: 3}}\nstages:\n  a: {uses: fake_source}\n",
    );
    space.run(&["check", "r.yaml"]).expect(0);
    let ran = space.run(&["check", "r.yaml", "--strict"]).expect(2);
    assert!(ran.stderr.contains("error[W002]"), "{}", ran.stderr);
    space.run(&["run", "r.yaml", "--strict"]).expect(2);
    space.run(&["run", "r.yaml"]).expect(0);
}

/// Every code that a stage or a kind can give is explained.
#[test]
fn help_knows_every_code() {
    use opdflow_api::warning::{
        ALARM, ALIKE, BROKEN_CANDIDATE, DUPLICATES, FLAT, GUIDED_NFT, IDLE_PROCESSES, IDLE_TEACHER, IGNORED, LEAK,
        NO_CHANGE, NO_GRADIENT, NO_PACE, NO_WEIGHT, NOTHING_LEARNED, ONE_FILE, TOO_LARGE, TRUNCATED, UNREADABLE,
    };
    let space = TestSpace::new();
    for code in [
        ALARM,
        ALIKE,
        BROKEN_CANDIDATE,
        DUPLICATES,
        FLAT,
        GUIDED_NFT,
        IDLE_PROCESSES,
        IDLE_TEACHER,
        IGNORED,
        LEAK,
        NOTHING_LEARNED,
        NO_CHANGE,
        NO_GRADIENT,
        NO_PACE,
        NO_WEIGHT,
        ONE_FILE,
        TOO_LARGE,
        TRUNCATED,
        UNREADABLE,
    ] {
        let help = space.run(&["help", code]).expect(0).stdout;
        assert!(help.starts_with(code) && help.contains("way out: "), "{help}");
    }
}
