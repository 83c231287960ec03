//! A run carried to another store: `export`, `import`.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::Value;

const STAGES: &str = "
a: {uses: fake_source, with: {value: 4}}
sum: {uses: fake_sum, needs: {terms: {a: a.value}}, with: {plus: 1}}
train: {uses: fake_train, needs: {base: sum.value}, with: {iterations: 4}}
report: {uses: fake_report, needs: {parts: {t: train.model}}}
";

fn verdicts(space: &TestSpace, store: &str, recipe: &str) -> Vec<String> {
    let plan = space.run(&["plan", recipe, "--json", "--store", store]).expect(0).json();
    plan["stages"].as_array().unwrap().iter().map(|s| s["verdict"].as_str().unwrap().to_owned()).collect()
}

fn results(space: &TestSpace, store: &str) -> usize {
    ["blobs", "actions", "checkpoints"].iter().map(|f| common::files(&space.path(store).join(f)).len()).sum()
}

#[test]
fn a_run_is_all_hits_elsewhere() {
    let space = TestSpace::new();
    space.recipe("r.yaml", STAGES);
    space.run(&["run", "r.yaml"]).expect(0);
    let made = space.run(&["export", "-o", "run.tar", "--json"]).expect(0).json();
    assert_eq!((&made["results"], &made["lacking"]), (&4.into(), &Value::Array(Vec::new())));
    // Never over something else, and the same again gives the same bytes.
    assert!(space.run(&["export", "-o", "run.tar"]).expect(3).stderr.contains("not overwritten"));
    space.run(&["export", "-o", "again.tar"]).expect(0);
    assert_eq!(std::fs::read(space.path("run.tar")).unwrap(), std::fs::read(space.path("again.tar")).unwrap());

    let import = ["import", "run.tar", "--store", "other", "--run-dir", "there", "--json"];
    let taken = space.run(&import).expect(0).json();
    assert_eq!(taken["new"].as_array().unwrap().len(), 4, "{taken}");
    let recipe = format!("{}/recipe.yaml", taken["runs"][0].as_str().unwrap());
    assert_eq!(verdicts(&space, "other", &recipe), ["hit"; 4]);
    let ran = space.run(&["run", &recipe, "--store", "other", "--json"]).expect(0);
    assert!(ran.verdicts().values().all(|v| v == "hit"), "{ran:?}");
    space.run(&["verify", "--deep", "--store", "other"]).expect(0);
    let before = results(&space, "other");
    let again = space.run(&import).expect(0).json();
    assert_eq!((again["same"].as_array().unwrap().len(), again["bytes"].as_u64()), (4, Some(0)), "{again}");
    assert_eq!(results(&space, "other"), before);
}

#[test]
fn a_stopped_run_goes_on_elsewhere() {
    let space = TestSpace::new();
    space.recipe("r.yaml", &STAGES.replace("iterations: 4", "iterations: 6, fail_at: 4"));
    space.run(&["run", "r.yaml"]).expect(1);
    let made = space.run(&["export", "-o", "run.tar", "--json"]).expect(0).json();
    assert_eq!((&made["results"], &made["checkpoints"]), (&2.into(), &1.into()), "{made}");
    let taken = space.run(&["import", "run.tar", "--store", "other", "--run-dir", "there", "--json"]).expect(0).json();
    assert_eq!(taken["checkpoints"], 1);
    assert_eq!(verdicts(&space, "other", "r.yaml"), ["hit", "hit", "resume", "run"]);
    let again = space.run(&["import", "run.tar", "--store", "other", "--run-dir", "there", "--json"]).expect(0).json();
    assert_eq!(again["checkpoints"], 0);
}

#[test]
fn a_damaged_archive_leaves_nothing() {
    let space = TestSpace::new();
    space.recipe("r.yaml", STAGES);
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&["export", "-o", "run.tar"]).expect(0);
    let whole = std::fs::read(space.path("run.tar")).unwrap();
    let spoil = |name: &str, bytes: &[u8]| {
        std::fs::write(space.path("bad.tar"), bytes).unwrap();
        let ran = space.run(&["import", "bad.tar", "--store", "other", "--run-dir", "there"]);
        assert_eq!(ran.code, 3, "{name}: {ran:?}");
        assert!(ran.stderr.starts_with("error: bad.tar "), "{name}: {}", ran.stderr);
        assert_eq!(results(&space, "other"), 0, "{name}");
        assert!(!space.path("there").exists(), "{name}");
    };
    spoil("empty", b"");
    spoil("no archive", b"rubbish");
    // The last kilobyte is padding.
    for cut in (1..whole.len() - 1024).step_by(whole.len() / 23) {
        spoil(&format!("cut at {cut}"), &whole[..cut]);
    }
    // A flip that is not seen must be in the padding between members: then all is taken in as it was.
    let mut unseen = 0;
    for at in (0..whole.len() - 1024).step_by(whole.len() / 61) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        if whole[at] == 0 {
            unseen += 1;
        } else {
            spoil(&format!("flip at {at}"), &bytes);
        }
    }
    assert!(unseen < 61);
    assert!(space.run(&["import", "none.tar", "--store", "other"]).expect(3).stderr.contains("none.tar"));
    assert!(space.run(&["export", "nope", "-o", "x.tar"]).expect(2).stderr.contains("no run `nope`"));
}

/// What `import` says at its end is tried: with the variables, the seed and the files of the run.
#[test]
fn the_command_that_import_names_works() {
    let space = TestSpace::new();
    std::fs::create_dir(space.path("project")).unwrap();
    space.write("project/number", "5");
    let recipe = "opdflow: 1
name: r
vars: {n: 0, file: none}
stages:
  a: {uses: fake_source, with: {value: \"${n}\", file: \"${file}\"}}
  t: {uses: fake_train, with: {iterations: 3}}
";
    space.write("project/r.yaml", recipe);
    space.write("over.yaml", "file: number\n");
    space.run(&["run", "project/r.yaml", "--vars", "over.yaml", "--set", "n=4", "--seed", "9"]).expect(0);
    space.run(&["export", "-o", "run.tar"]).expect(0);
    let import = ["import", "run.tar", "--store", "other", "--run-dir", "there"];
    let command = |said: &str| {
        let words = said.split('`').nth(1).unwrap_or_else(|| panic!("no command in {said}"));
        words.split(' ').skip(1).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    // The recipe still lies where it was, with its file beside it.
    let said = space.run(&import).expect(0).stderr;
    let mut words = command(&said);
    assert!(words.contains(&"--seed".to_owned()) && words.contains(&"n=4".to_owned()), "{said}");
    words.push("--json".to_owned());
    let ran = space.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).expect(0);
    assert!(ran.verdicts().values().all(|v| v == "hit"), "{said}: {ran:?}");
    // On another machine there is neither.
    std::fs::rename(space.path("project"), space.path("moved")).unwrap();
    let said = space.run(&["import", "run.tar", "--store", "third", "--run-dir", "elsewhere"]).expect(0).stderr;
    assert!(said.contains("files that an archive does not hold are missing") && said.contains("number"), "{said}");
}

/// A log that could not be read later is not taken in, and neither is anything else.
#[test]
fn a_run_whose_log_is_damaged_leaves_nothing() {
    let space = TestSpace::new();
    space.recipe("r.yaml", STAGES);
    space.run(&["run", "r.yaml"]).expect(0);
    let log = space.path(".opdflow/runs/latest/events.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    // What a run under way leaves: the line is left out.
    std::fs::write(&log, format!("{text}{{\"at\":")).unwrap();
    space.run(&["export", "-o", "torn.tar"]).expect(0);
    space.run(&["import", "torn.tar", "--store", "first", "--run-dir", "first-runs"]).expect(0);
    std::fs::write(&log, text.replace("run_ended", "run_edned")).unwrap();
    space.run(&["export", "-o", "bad.tar"]).expect(0);
    let import = ["import", "bad.tar", "--store", "other", "--run-dir", "there"];
    let said = space.run(&import).expect(3).stderr;
    assert!(said.contains("the log of the run") && said.contains("nothing was taken in"), "{said}");
    assert!(!space.path("other").exists() && !space.path("there").exists());
}

#[test]
fn an_import_that_was_killed_is_cleared_away_by_the_next() {
    let space = TestSpace::new();
    space.recipe("r.yaml", STAGES);
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&["export", "-o", "run.tar"]).expect(0);
    for _ in 0..6 {
        let mut import = space.start(&["import", "run.tar", "--store", "other", "--run-dir", "there"]);
        common::wait_until("it lays the records ready", || {
            std::fs::read_dir(space.path("there/runs")).is_ok_and(|mut d| d.next().is_some()) || import_ended(&space)
        });
        let _ = import.kill();
        let _ = import.wait();
        if import_ended(&space) {
            std::fs::remove_dir_all(space.path("there")).unwrap();
        }
    }
    std::fs::create_dir_all(space.path("there/runs/.import-7-run/logs")).unwrap();
    space.run(&["import", "run.tar", "--store", "other", "--run-dir", "there"]).expect(0);
    let left: Vec<_> = std::fs::read_dir(space.path("there/runs")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    space.run(&["verify", "--deep", "--store", "other"]).expect(0);
    // A killed export is cleared away by the next as well.
    for n in 0..4 {
        let mut export = space.start(&["export", "-o", &format!("killed-{n}.tar")]);
        std::thread::sleep(std::time::Duration::from_millis(3 * n));
        let _ = export.kill();
        let _ = export.wait();
    }
    space.run(&["export", "-o", "last.tar"]).expect(0);
    let parts = std::fs::read_dir(space.path(".")).unwrap().flatten();
    assert!(parts.into_iter().all(|e| !e.file_name().to_string_lossy().contains("part")));
}

fn import_ended(space: &TestSpace) -> bool {
    let runs = std::fs::read_dir(space.path("there/runs")).into_iter().flatten().flatten();
    runs.into_iter().any(|e| !e.file_name().to_string_lossy().starts_with('.'))
}
