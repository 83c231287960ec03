//! `watch`, `stop` and `logs`: a run from another terminal.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, finish};
use serde_json::{Value, json};

const LONG: &str = "t: {uses: fake_train, with: {iterations: 4000, step_seconds: 0.01}}
    end: {uses: fake_report, needs: {parts: {t: t.model}}}";

#[test]
fn stop_lets_stages_checkpoint() {
    let space = TestSpace::new();
    space.recipe("r.yaml", LONG);
    let run = space.start(&["run", "r.yaml", "--json"]);
    space.wait_for("checkpointed", |_| true);
    let stopped = space.run(&["stop", "--wait", "--json"]).expect(0).json();
    assert_eq!(
        (&stopped["asked"], &stopped["alive"], &stopped["pid"]),
        (&json!(true), &json!(false), &json!(run.id()))
    );
    let ran = finish(run).expect(75);
    assert_eq!(ran.verdicts()["t"], "stopped");
    assert!(space.events_of("stopped")[1]["step"].as_u64() > Some(0), "{:?}", space.events_of("stopped"));
    // A run that is over is left alone, and its number may be another's by now.
    let again = space.run(&["stop"]).expect(0);
    assert!(again.stderr.contains("has ended already"), "{}", again.stderr);
    space.run(&["stop", "no-such-run"]).expect(2);
}

#[test]
fn stop_now_ends_a_stage_that_does_not_listen() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "s: {uses: fake_source, with: {value: 1, seconds: 120}}");
    let run = space.start(&["run", "r.yaml"]);
    let stage = space.wait_for("started", |_| true)["pid"]
        .as_i64()
        .and_then(|p| i32::try_from(p).ok())
        .expect("a process number");
    common::wait_until("the stage listens to signals", || common::catches(stage, libc::SIGTERM));
    // Asking twice asks once: only `--now` ends a stage that still has something to save.
    space.run(&["stop"]).expect(0);
    space.run(&["stop"]).expect(0);
    assert_eq!(space.events_of("stopping"), [json!({"kill": false})]);
    space.run(&["stop", "--now", "--wait"]).expect(0);
    finish(run).expect(130);
    assert_eq!(space.events_of("stopping").len(), 2);
}

#[test]
fn watch_shows_a_run_and_ends_with_it() {
    let space = TestSpace::new();
    space.recipe("r.yaml", &LONG.replace("4000", "60"));
    let run = space.start(&["run", "r.yaml"]);
    space.wait_for("checkpointed", |_| true);
    let lines = space.start(&["watch", "--json"]);
    let text = space.start(&["watch", "--plain"]);
    let run = finish(run).expect(0);
    let text = finish(text).expect(0);
    let (tail, own) = ("2 stages: 2 run", run.stderr.lines().filter(|l| l.contains("done")).collect::<Vec<_>>());
    assert!(
        text.stderr.contains(tail) && own.iter().all(|l| text.stderr.contains(l)),
        "{}\n---\n{}",
        text.stderr,
        run.stderr
    );
    let lines = finish(lines).expect(0).stdout;
    let events: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert!(
        events[0]["event"]["run_started"].is_object()
            && events.last().unwrap()["event"]["run_ended"]["ok"] == json!(true)
    );
    // Of a run that is over, at once.
    assert!(space.run(&["watch"]).expect(0).stderr.contains(tail));
}

#[test]
fn watch_ends_as_the_run_ends() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "f: {uses: fake_fail}");
    space.run(&["run", "r.yaml"]).expect(1);
    assert!(space.run(&["watch"]).expect(1).stderr.contains("FAILED f"));
    space.recipe("r.yaml", LONG);
    let run = space.start(&["run", "r.yaml"]);
    space.wait_for("checkpointed", |_| true);
    common::signal(common::pid(&run), libc::SIGKILL);
    finish(run);
    assert!(space.run(&["watch"]).expect(1).stderr.contains("died without a last word"));
    space.children().into_iter().for_each(|c| common::signal(c, libc::SIGKILL));
}

#[test]
fn logs_are_those_of_the_newest_run_in_which_the_stage_worked() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "f: {uses: fake_fail, with: {message: alas}}\ns: {uses: fake_source, with: {value: 1}}");
    let first = space.run(&["run", "r.yaml", "--json"]).expect(1).json()["run"].clone();
    assert!(space.run(&["logs", "f"]).expect(0).stdout.contains("failed: alas"));
    space.run(&["run", "r.yaml", "--until", "s"]).expect(0);
    let log = space.run(&["logs", "f", "--json"]).expect(0).json();
    assert_eq!(log["run"], first);
    assert!(log["text"].as_str().is_some_and(|t| t.contains("alas")), "{log}");
    let latest = space.path(".opdflow/runs/latest").canonicalize().unwrap();
    let latest = latest.file_name().unwrap().to_str().unwrap();
    let hit = space.run(&["logs", "s", "--run", latest]).expect(2);
    assert!(hit.stderr.contains("it is hit"), "{}", hit.stderr);
    space.run(&["logs", "ff"]).expect(2);
}

#[test]
fn logs_can_be_followed() {
    let space = TestSpace::new();
    space.recipe("r.yaml", &LONG.replace("4000", "40"));
    let run = space.start(&["run", "r.yaml"]);
    space.wait_for("started", |_| true);
    let log = space.start(&["logs", "t", "--follow"]);
    finish(run).expect(0);
    assert!(finish(log).expect(0).stdout.contains("started at step 0"));
}

/// Of two stages that do not fit beside each other the second waits; one that is too large alone is told of, and runs.
#[test]
fn memory_is_shared_out_as_slots_are() {
    let space = TestSpace::new();
    let two = |memory: u64| {
        format!(
            "opdflow: 1
name: memory
stages:
  a: {{uses: fake_source, with: {{value: 1, memory: {memory}, seconds: 0.4}}}}
  b: {{uses: fake_source, with: {{value: 2, memory: {memory}, seconds: 0.4}}}}
  report: {{uses: fake_report, needs: {{parts: {{a: a.value, b: b.value}}}}}}
"
        )
    };
    // How many of the two had started when the first of them was done.
    let at_once = |memory: u64, force: &[&str]| {
        space.write("r.yaml", &two(memory));
        let mut command =
            space.command(&[&["run", "r.yaml", "--plain", "-j", "4", "--force", "a", "--force", "b"], force].concat());
        let ran = command.env("OPDFLOW_MEMORY", "8G").output().unwrap();
        let text = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{text}");
        let done = text.find("done a").into_iter().chain(text.find("done b")).min().unwrap();
        (text[..done].matches("start ").count(), text)
    };
    assert_eq!(at_once(3 << 30, &[]).0, 2);
    let (started, text) = at_once(5 << 30, &[]);
    assert!(started == 1 && !text.contains("W018"), "{text}");
    let (started, text) = at_once(9 << 30, &[]);
    assert!(
        started == 1
            && text.contains("warning[W018]: stage `a` is expected to take 9.7 GB of memory, this machine has 8.0 GB"),
        "{text}"
    );
    let plan = space.command(&["plan", "r.yaml", "--strict"]).env("OPDFLOW_MEMORY", "8G").output().unwrap();
    assert_eq!(plan.status.code(), Some(2));
    let plan = space.command(&["plan", "r.yaml"]).env("OPDFLOW_MEMORY", "8G").output().unwrap();
    assert!(String::from_utf8_lossy(&plan.stdout).contains("of 8.0 GB here"), "{plan:?}");
}
