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
    let said = space.run(&["gc", "--unused", "--grace", "0", "--no-runs"]).expect(0).stdout;
    assert!(said.contains("would go: 4 results") && said.contains("--delete"), "{said}");
    assert!(said.contains("train (fake_train)"), "{said}");
    assert_eq!(hits(&space), 4);
    let report = space.run(&["gc", "--unused", "--grace", "0", "--no-runs", "--delete", "--json"]).expect(0).json();
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

/// Everything in the store, with its bytes.
fn bytes_of(space: &TestSpace) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = ["blobs", "actions", "checkpoints", "pins", "damaged"]
        .iter()
        .flat_map(|f| files(&space.store().join(f)))
        .map(|p| (p.clone(), std::fs::read(&p).unwrap()))
        .collect();
    all.sort();
    all
}

/// Each of these may name what must be kept. Whatever the sweep, it says what it cannot read and takes nothing.
#[test]
fn a_sweep_stops_at_whatever_it_cannot_read() {
    use std::fs;
    type Harm = fn(&TestSpace);
    fn log(space: &TestSpace) -> std::path::PathBuf {
        space.path(".opdflow/runs/latest/events.jsonl")
    }
    fn lines(space: &TestSpace, change: impl Fn(&mut Vec<String>)) {
        let mut lines = fs::read_to_string(log(space)).unwrap().lines().map(|l| format!("{l}\n")).collect();
        change(&mut lines);
        fs::write(log(space), lines.concat()).unwrap();
    }
    let harms: [(&str, &str, Harm); 14] = [
        ("a newer log", "events.jsonl", |s| {
            fs::write(log(s), "{\"at\":1,\"event\":{\"run_started\":{\"format\":9}}}\n").unwrap();
        }),
        ("an empty log", "events.jsonl", |s| fs::write(log(s), "").unwrap()),
        ("a log that is gone", "events.jsonl", |s| fs::remove_file(log(s)).unwrap()),
        ("a log that is a folder", "events.jsonl", |s| {
            fs::remove_file(log(s)).unwrap();
            fs::create_dir(log(s)).unwrap();
        }),
        ("a log cut in a line", "events.jsonl", |s| lines(s, |l| l.last_mut().unwrap().truncate(20))),
        ("a log cut after its first line", "events.jsonl", |s| lines(s, |l| l.truncate(1))),
        ("a damaged line", "events.jsonl", |s| lines(s, |l| l[1] = "\0\0\0\n".into())),
        ("a line that is gone", "events.jsonl", |s| lines(s, |l| l.retain(|l| !l.contains("keyed")))),
        ("lines of an older log that are gone", "events.jsonl", |s| {
            fs::remove_file(s.path(".opdflow/runs/latest/keys")).unwrap();
            lines(s, |l| l.retain(|l| !l.contains("keyed")));
        }),
        ("a folder of runs that is a file", "runs", |s| {
            fs::rename(s.path(".opdflow/runs"), s.path("moved")).unwrap();
            fs::write(s.path(".opdflow/runs"), "").unwrap();
        }),
        ("a folder of runs that leads in circles", "runs", |s| {
            fs::rename(s.path(".opdflow/runs"), s.path("moved")).unwrap();
            std::os::unix::fs::symlink("runs", s.path(".opdflow/runs")).unwrap();
        }),
        ("a run that was moved to a disk that is not there", "old", |s| {
            std::os::unix::fs::symlink("/nowhere/at/all", s.path(".opdflow/runs/old")).unwrap();
        }),
        ("no runs here", ".opdflow", |s| fs::rename(s.path(".opdflow"), s.path("moved")).unwrap()),
        ("a pin", "pins/p", |s| fs::create_dir(s.store().join("pins/p")).unwrap()),
    ];
    let ran = ran();
    let whole = bytes_of(&ran);
    for (what, named, harm) in harms {
        let space = TestSpace::new();
        copy(&ran.path("."), &space.path("."));
        harm(&space);
        for how in [&["--unused"][..], &["--budget", "1K"]] {
            let sweep = [&["gc", "--grace", "0", "--delete"][..], how].concat();
            let ended = space.run(&sweep);
            assert!([2, 3].contains(&ended.code), "{what}: {ended:?}");
            assert!(ended.stderr.contains(named), "{what}: {}", ended.stderr);
            let kept = bytes_of(&space);
            assert_eq!(kept.len(), whole.len(), "{what}");
            // With the default grace as well, and when it only says what it would do.
            space.run(&[&["gc", "--delete"][..], how].concat());
            assert!(space.run(&[&["gc", "--grace", "0"][..], how].concat()).code > 0, "{what}");
            assert_eq!(bytes_of(&space), kept, "{what}");
        }
    }
    for wrong in ["elsewhere", "store", "r.yaml", ".opdflow/runs", ".opdflow/runs/latest"] {
        for how in [&["--unused"][..], &["--budget", "1K"], &[]] {
            let sweep =
                [&["gc", "--grace", "0", "--delete", "--run-dir", ".opdflow", "--run-dir", wrong][..], how].concat();
            let said = ran.run(&sweep).expect(2).stderr;
            assert!(said.contains(wrong) && said.contains("nothing was removed"), "{said}");
        }
    }
    assert_eq!(bytes_of(&ran), whole);
    // The way out that it names: the run again, and its old records away.
    let old = std::fs::read_link(ran.path(".opdflow/runs/latest")).unwrap();
    std::fs::write(log(&ran), "").unwrap();
    let said = ran.run(&["gc", "--unused", "--grace", "0", "--delete"]).expect(3).stderr;
    assert!(said.contains(old.to_str().unwrap()), "{said}");
    ran.run(&["run", "r.yaml"]).expect(0);
    std::fs::remove_dir_all(ran.path(".opdflow/runs").join(old)).unwrap();
    ran.run(&["gc", "--unused", "--grace", "0", "--delete"]).expect(0);
    assert_eq!(hits(&ran), 4);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap() {
            t if t.is_dir() => {
                std::fs::create_dir_all(&to).unwrap();
                copy(&path, &to);
            }
            t if t.is_symlink() => std::os::unix::fs::symlink(std::fs::read_link(&path).unwrap(), &to).unwrap(),
            _ => drop(std::fs::copy(&path, &to).unwrap()),
        }
    }
}

/// Runs and sweeps begin at any moment of each other, some of them in a store that is not there yet.
#[test]
fn runs_and_sweeps_beside_each_other() {
    let space = TestSpace::new();
    std::fs::create_dir_all(space.path(".opdflow/runs")).unwrap();
    let sweeps: [&[&str]; 3] = [&["--unused", "--grace", "0"], &["--budget", "1K", "--grace", "0"], &["--unused"]];
    for n in 0..12 {
        if n % 4 == 0 {
            let _ = std::fs::remove_dir_all(space.store());
        }
        space.recipe(
            &format!("{n}.yaml"),
            &format!("a: {{uses: fake_source, with: {{value: {n}}}}}\nb: {{uses: fake_sum, needs: {{terms: {{a: a.value}}}}}}"),
        );
        let sweep = [&["gc", "--delete"], sweeps[n % 3]].concat();
        let (name, mut others) = (format!("{n}.yaml"), Vec::new());
        others.push(space.start(&sweep));
        let run = space.start(&["run", &name]);
        others.push(space.start(&sweep));
        common::finish(run).expect(0);
        others.push(space.start(&sweep));
        for ended in others.into_iter().map(common::finish) {
            assert!(ended.code == 0 || (ended.code == 3 && ended.stderr.contains("in use")), "{ended:?}");
        }
        let again = space.run(&["run", &name, "--json"]).expect(0);
        assert!(again.verdicts().values().all(|v| v == "hit"), "{n}: {again:?}");
    }
}

/// The store is deleted while a stage works: the run says so, leaves nothing behind, and the next one works.
#[test]
fn a_store_deleted_under_a_run() {
    let space = TestSpace::new();
    for (n, stage) in
        ["iterations: 4000, step_seconds: 0.005, checkpoint_every: 20", "iterations: 300, step_seconds: 0.005"]
            .iter()
            .enumerate()
    {
        space.recipe("long.yaml", &format!("t: {{uses: fake_train, with: {{{stage}}}}}\nafter: {{uses: fake_report, needs: {{parts: {{t: t.model}}}}}}"));
        let run = space.start(&["run", "long.yaml"]);
        common::wait_until("the stage works", || {
            space.events_of("progress").iter().any(|p| p["step"].as_u64() > Some(20))
        });
        // As often as it takes: the stage may make a folder in the one that is being removed.
        common::wait_until("the store is removed", || std::fs::remove_dir_all(space.store()).is_ok());
        let ended = common::finish(run);
        assert_eq!(ended.code, 3, "{n}: {ended:?}");
        assert!(
            ended.stderr.contains("was deleted") && ended.stderr.contains("the same command again"),
            "{n}: {}",
            ended.stderr
        );
        assert!(!space.store().exists(), "{n}: {:?}", files(&space.store()));
        space.recipe("r.yaml", CHAIN);
        space.run(&["run", "r.yaml"]).expect(0);
        assert_eq!(hits(&space), 4);
        space.run(&["verify", "--deep"]).expect(0);
        std::fs::remove_dir_all(space.path(".opdflow")).unwrap();
    }
}

#[test]
fn get_replaces_only_what_it_wrote() {
    let space = ran();
    let get = ["get", "r.yaml", "train.candidates", "-o", "out", "--overwrite"];
    space.run(&get).expect(0);
    space.recipe("r.yaml", &CHAIN.replace("iterations: 6", "iterations: 8"));
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&get).expect(0);
    space.write("out/README.md", "my words");
    let said = space.run(&get).expect(2).stderr;
    assert!(said.contains("`README.md`") && said.contains("another place"), "{said}");
    assert_eq!(std::fs::read_to_string(space.path("out/README.md")).unwrap(), "my words");
    let before = bytes_of(&space);
    for place in ["store", "store/blobs", ".", "/", "store/../store", "store/blobs/x"] {
        let said = space.run(&["get", "r.yaml", "train.candidates", "-o", place, "--overwrite"]).expect(2).stderr;
        assert!(said.contains("nothing is written to"), "{place}: {said}");
    }
    for (port, place) in [("sum.value", "r.yaml"), ("sum.value", "/dev/null"), ("sum.value", "store/version")] {
        space.run(&["get", "r.yaml", port, "-o", place, "--overwrite"]).expect(2);
    }
    assert_eq!(bytes_of(&space), before);
    assert_eq!(hits(&space), 4);
}

#[test]
fn pins_keep_a_stage_and_all_it_stands_on() {
    let space = ran();
    space.run(&["pin", "r.yaml", "train"]).expect(0);
    let sweep = ["gc", "--unused", "--grace", "0", "--no-runs", "--delete"];
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
