//! A store after a power cut, a bad disk, a clock that jumped; many runs at once.
//!
//! `tests/kill.rs` has deaths of processes, `cache/src/crash.rs` deaths and full disks at every step of a store's life.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, files, finish};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const STAGES: &str = "
a: {uses: fake_source, with: {value: 3}}
x: {uses: fake_train, needs: {base: a.value}, with: {iterations: 12}}
end: {uses: fake_report, needs: {parts: {x: x.model, all: x.candidates}}, with: {title: t}}
";
const RUN: [&str; 3] = ["run", "r.yaml", "--json"];

fn ran() -> (TestSpace, BTreeMap<String, String>) {
    let space = TestSpace::new();
    space.recipe("r.yaml", STAGES);
    let outputs = space.run(&RUN).expect(0).outputs();
    (space, outputs)
}

/// Puts the store back to what it was.
fn restore(store: &Path, whole: &BTreeMap<PathBuf, Vec<u8>>) {
    std::fs::remove_dir_all(store).unwrap();
    for (path, bytes) in whole {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// What a power cut leaves of a file that was not synced, or a bad disk of one that was: every file of the store in
/// turn is emptied, cut, filled with zeros, changed in one bit.
#[test]
fn any_file_may_be_torn() {
    let (space, calm) = ran();
    let whole: BTreeMap<PathBuf, Vec<u8>> =
        files(&space.store()).into_iter().map(|p| (p.clone(), std::fs::read(&p).unwrap())).collect();
    assert!(whole.len() > 10);
    for (path, bytes) in whole.iter().filter(|(_, b)| !b.is_empty()) {
        let half = bytes.len() / 2;
        let mut flipped = bytes.clone();
        flipped[half] ^= 4;
        for (how, torn) in [
            ("emptied", Vec::new()),
            ("cut", bytes[..half].to_vec()),
            ("zeroed", vec![0; bytes.len()]),
            ("flipped", flipped),
        ] {
            restore(&space.store(), &whole);
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, &torn).unwrap();
            let name = path.strip_prefix(space.store()).unwrap().display().to_string();
            let when = format!("{name} {how}");
            let ran = space.run(&RUN);
            // The one file without which nobody knows whether this is a store at all.
            if name == "version" {
                assert!([0, 3].contains(&ran.code), "{when}: {ran:?}");
                continue;
            }
            assert_eq!(ran.code, 0, "{when}: {ran:?}");
            assert_eq!(ran.outputs(), calm, "{when}");
            // A run of hits reads no bytes that it does not need; looking at them all may find one more.
            let found = space.run(&["verify", "--deep"]);
            assert!([0, 3].contains(&found.code), "{when}: {found:?}");
            assert_eq!(space.run(&RUN).expect(0).outputs(), calm, "{when}");
            space.run(&["verify", "--deep"]).expect(0);
        }
    }
}

/// Clocks are set back and forth, and files come from machines with other clocks.
#[test]
fn clocks_may_jump() {
    let (space, calm) = ran();
    for (name, time) in
        [("the future", SystemTime::now() + Duration::from_secs(40 * 365 * 86_400)), ("1970", SystemTime::UNIX_EPOCH)]
    {
        for path in files(&space.store()) {
            let file = std::fs::File::open(&path).unwrap();
            file.set_modified(time).unwrap();
        }
        let ran = space.run(&RUN).expect(0);
        assert_eq!(ran.outputs(), calm, "{name}");
        assert!(ran.verdicts().values().all(|v| v == "hit"), "{name}: {ran:?}");
        // Nothing that a run names goes, whatever its age seems to be; `status` and `du` say something.
        space.run(&["gc", "--unused", "--delete"]).expect(0);
        assert!(space.run(&RUN).expect(0).verdicts().values().all(|v| v == "hit"), "{name}");
        for command in ["status", "du", "verify"] {
            space.run(&[command]).expect(0);
        }
    }
    // A log whose times run backwards.
    let log = space.path(".opdflow/runs/latest/events.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    let mut lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let n = lines.len();
    for (i, line) in lines.iter_mut().enumerate() {
        line["at"] = serde_json::json!((n - i) as f64 * 1e6 - 3e6);
    }
    std::fs::write(&log, lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    for args in [["status", "--json"], ["watch", "--plain"]] {
        space.run(&args).expect(0);
    }
}

/// As root nothing is read-only, so that there the folder is one that no file can be made in.
#[test]
fn a_place_that_cannot_be_written_to_is_said_to_be_one() {
    let (space, _) = ran();
    let store = "/proc/self/fd";
    let ran = space.run(&["run", "r.yaml", "--store", store]).expect(3);
    assert!(ran.stderr.contains("OPDFLOW_STORE"), "{}", ran.stderr);
    // Nor can the run be recorded: it runs all the same.
    let ran = space.run(&["run", "r.yaml", "--run-dir", "/proc/self/fd"]).expect(0);
    assert!(ran.stderr.contains("recorded in"), "{}", ran.stderr);
    let writable = space.path("store");
    let mode = |bits| std::os::unix::fs::PermissionsExt::from_mode(bits);
    std::fs::set_permissions(&writable, mode(0o555)).unwrap();
    let ran = space.run(&RUN);
    std::fs::set_permissions(&writable, mode(0o755)).unwrap();
    // All hits: nothing needs to be written but a trial file, in `tmp/`.
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// The same work asked for eight times at once is done once; other work beside it is not disturbed.
#[test]
fn eight_runs_share_a_store() {
    let space = TestSpace::new();
    let slow = STAGES.replace("iterations: 12", "iterations: 12, step_seconds: 0.05");
    space.recipe("r.yaml", &slow);
    space.recipe("other.yaml", &slow.replace("value: 3", "value: 4"));
    let runs: Vec<_> = (0..8)
        .map(|i| space.start(&["run", if i % 2 == 0 { "r.yaml" } else { "other.yaml" }, "--json", "-j", "1"]))
        .collect();
    let ended: Vec<_> = runs.into_iter().map(|run| finish(run).expect(0)).collect();
    for kind in [0, 1] {
        let alike: Vec<_> = ended.iter().skip(kind).step_by(2).collect();
        for ran in &alike {
            assert_eq!(ran.outputs(), alike[0].outputs());
        }
        let computed = alike.iter().filter(|r| r.verdicts()["x"] == "run").count();
        assert_eq!(computed, 1, "{:?}", alike.iter().map(|r| r.verdicts()).collect::<Vec<_>>());
    }
    space.run(&["verify", "--deep"]).expect(0);
    assert_eq!(files(&space.store().join("tmp")).len(), 0);
}
