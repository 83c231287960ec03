//! The files of other trackers: what TensorBoard and MLflow themselves read in them is what the run log says.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const STAGES: &str = "
a: {uses: fake_source, with: {value: 41}}
train: {uses: fake_train, needs: {base: a.value}, with: {iterations: 8, algorithm: {noisy: {rate: 0.5, noise: 0.25}}}}
judged: {uses: fake_judge, needs: {lora: train.model}, with: {score: 0.75, prompts: [\"a *red* dog <b>|\", a cat]}}
base: {uses: fake_judge, with: {score: 0.5, prompts: [a bird]}}
";

/// The Python that `scripts/trackers.sh` makes, if it is here.
fn python() -> Option<PathBuf> {
    let deps = std::env::var_os("OPDFLOW_DEPS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps"), PathBuf::from);
    let python = deps.join("trackers/bin/python");
    let there = python.is_file() && deps.join("trackers/packages").is_file();
    if !there {
        println!("skipped: no TensorBoard and MLflow here (scripts/trackers.sh brings them)");
    }
    there.then_some(python)
}

/// What one of the scripts beside this file says of a folder.
fn read(python: &Path, script: &str, folder: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trackers").join(script);
    let ran = Command::new(python).arg("-W").arg("ignore").arg(script).arg(folder).output().unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{text}\n{said}");
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {text}\n{said}"))
}

/// Step, value and time.
type Points = Vec<(u64, f64, f64)>;

/// The metrics of a run log by stage and name.
fn logged(log: &Path) -> BTreeMap<(String, String), Points> {
    let mut found: BTreeMap<(String, String), Points> = BTreeMap::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let metric = &line["event"]["metric"];
        if metric.is_null() {
            continue;
        }
        let key = (metric["stage"].as_str().unwrap().to_owned(), metric["name"].as_str().unwrap().to_owned());
        let value = metric["value"].as_f64().unwrap_or(f64::NAN);
        found.entry(key).or_default().push((metric["step"].as_u64().unwrap(), value, line["at"].as_f64().unwrap()));
    }
    found
}

/// A number as Python shows it.
fn number(text: &Value) -> f64 {
    text.as_str().unwrap().parse().unwrap_or_else(|_| panic!("{text}"))
}

/// Every scalar of a stage in TensorBoard is that of the log, in the 32 bits that it has there.
#[track_caller]
fn scalars_are_those_of(log: &Path, runs: &Value, served: &Value, folder: &dyn Fn(&str) -> String) -> usize {
    let mut seen = 0;
    for ((stage, name), points) in logged(log) {
        let scalars = &runs[folder(&stage)]["scalars"][&name];
        let scalars = scalars.as_array().unwrap_or_else(|| panic!("no `{name}` of `{stage}` in {runs:#}"));
        assert_eq!(scalars.len(), points.len(), "{stage} {name}");
        assert_eq!(served["points"][folder(&stage)][&name], points.len(), "{served:#}");
        for (scalar, (step, value, at)) in scalars.iter().zip(points) {
            assert_eq!(scalar[0].as_u64(), Some(step));
            let (found, wanted) = (number(&scalar[1]) as f32, value as f32);
            assert!(found.to_bits() == wanted.to_bits() || found.is_nan() && wanted.is_nan(), "{found} {wanted}");
            assert!((scalar[2].as_f64().unwrap() - at).abs() < 1e-6);
            seen += 1;
        }
    }
    seen
}

fn finished() -> TestSpace {
    let space = TestSpace::new();
    space.recipe("r.yaml", STAGES);
    space.run(&["run", "r.yaml"]).expect(0);
    space
}

fn latest(space: &TestSpace) -> PathBuf {
    space.path(".opdflow/runs/latest").canonicalize().unwrap()
}

/// The files below a folder by their paths in it.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.strip_prefix(folder).unwrap().display().to_string();
    common::files(folder).iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

#[test]
fn what_is_written_live_is_what_is_exported_later() {
    let space = finished();
    let live = contents(&latest(&space).join("tensorboard"));
    assert_eq!(live.len(), 3, "{:?}", live.keys());
    space.run(&["export", "--format", "tensorboard", "-o", "board"]).expect(0);
    assert_eq!(contents(&space.path("board")), live);
    // A run of hits has the same curves and scores, live without the images that it did not make.
    space.run(&["run", "r.yaml"]).expect(0);
    let again = contents(&latest(&space).join("tensorboard"));
    let sizes = |files: &BTreeMap<String, Vec<u8>>, stage: &str| {
        files.iter().find(|(name, _)| name.starts_with(stage)).map(|(_, bytes)| bytes.len())
    };
    assert_eq!(sizes(&again, "train/"), sizes(&live, "train/"));
    assert!(sizes(&again, "judged/") < sizes(&live, "judged/"));
}

#[test]
fn an_export_replaces_only_what_an_export_wrote() {
    let space = finished();
    for format in ["tensorboard", "mlflow"] {
        let export = |more: &[&str]| space.run(&[&["export", "--format", format, "-o", "out"], more].concat());
        std::fs::create_dir(space.path("out")).unwrap();
        export(&[]).expect(0);
        let first = contents(&space.path("out"));
        assert!(export(&[]).expect(2).stderr.contains("--overwrite"));
        export(&["--overwrite"]).expect(0);
        assert_eq!(contents(&space.path("out")), first, "the same run gives the same bytes");
        space.write("out/mine", "x");
        assert!(export(&["--overwrite"]).expect(2).stderr.contains("mine"));
        assert_eq!(std::fs::read_to_string(space.path("out/mine")).unwrap(), "x");
        std::fs::remove_dir_all(space.path("out")).unwrap();
    }
    for flag in ["--overwrite", "--no-prompts"] {
        assert!(space.run(&["export", "-o", "x.tar", flag]).expect(2).stderr.contains("--format tensorboard"));
    }
    space.recipe("none.yaml", "a: {uses: fake_source}");
    space.run(&["run", "none.yaml"]).expect(0);
    let said = space.run(&["export", "--format", "mlflow", "-o", "none"]).expect(2).stderr;
    assert!(said.contains("no stage of") && !space.path("none").exists(), "{said}");
}

#[test]
fn what_cannot_be_told_is_named_and_the_rest_is_there() {
    let space = finished();
    let log = latest(&space).join("events.jsonl");
    let whole = std::fs::read_to_string(&log).unwrap();
    let export = |format: &str| {
        let _ = std::fs::remove_dir_all(space.path("out"));
        space.run(&["export", "--format", format, "-o", "out", "--json"]).expect(0).json()["lacking"].to_string()
    };
    assert_eq!(export("mlflow"), "[]");
    // Cut anywhere behind the first metric, in the middle of a line too.
    let first = whole.find("\"metric\"").unwrap();
    let first = first + whole[first..].find('\n').unwrap() + 1;
    for cut in (first..whole.len() - 1).step_by((whole.len() - first) / 9) {
        std::fs::write(&log, &whole[..cut]).unwrap();
        for format in ["tensorboard", "mlflow"] {
            let lacking = export(format);
            assert!(lacking.contains("the run log ends before its run did"), "{cut}: {lacking}");
        }
    }
    std::fs::write(&log, &whole[whole.find('\n').unwrap() + 1..]).unwrap();
    assert!(export("tensorboard").contains("lacks its first line"));
    std::fs::write(&log, format!("{whole}rubbish\n")).unwrap();
    assert!(export("mlflow").contains("1 lines of the run log are damaged"));
    // Results that were collected: the curves of the log stay.
    std::fs::write(&log, &whole).unwrap();
    std::fs::remove_dir_all(space.store().join("actions")).unwrap();
    std::fs::create_dir(space.store().join("actions")).unwrap();
    let lacking = export("tensorboard");
    assert!(lacking.contains("`judged`: its result is not in the store any more"), "{lacking}");
    assert!(contents(&space.path("out")).keys().all(|file| file.starts_with("train/")));
}

#[test]
fn a_place_that_cannot_be_written_to_is_told_once_and_stops_nothing() {
    let space = TestSpace::new();
    space.recipe("r.yaml", &STAGES.replace("iterations: 8", "iterations: 8, step_seconds: 0.1"));
    let child = space.start(&["run", "r.yaml"]);
    space.wait_for("metric", |_| true);
    let folder = latest(&space).join("tensorboard");
    common::wait_until("the first file", || folder.join("train").is_dir());
    std::fs::remove_dir_all(&folder).unwrap();
    space_filler(&folder);
    let ran = common::finish(child).expect(0);
    assert_eq!(ran.stderr.matches("the run goes on without TensorBoard's files").count(), 1, "{}", ran.stderr);
}

/// A file where a folder would be made.
fn space_filler(path: &Path) {
    // The writer may be quicker and make the folder anew.
    while std::fs::write(path, "").is_err() {
        let _ = std::fs::remove_dir_all(path);
    }
}

#[test]
fn tensorboard_reads_what_the_log_says() {
    let Some(python) = python() else { return };
    let space = finished();
    let plain = |stage: &str| stage.to_owned();
    space.run(&["export", "--format", "tensorboard", "-o", "board"]).expect(0);
    let read_all = read(&python, "read_tensorboard.py", &space.path("board"));
    let (runs, served) = (&read_all["runs"], &read_all["served"]);
    assert_eq!(scalars_are_those_of(&latest(&space).join("events.jsonl"), runs, served, &plain), 8);
    // Scores stand with the evaluation and with what it judged.
    for (stage, mean) in [("judged", 0.75), ("train", 0.75), ("base", 0.5)] {
        let scores = &runs[stage]["scalars"]["scores/words/ocr"];
        assert_eq!((scores[0][0].as_u64(), number(&scores[0][1])), (Some(0), mean), "{stage}");
        let errors = &runs[stage]["scalars"]["standard_error/words/ocr"];
        // Of the one prompt of `base` there is no error.
        assert_eq!(errors.get(0).map(|error| number(&error[1])), (stage != "base").then_some(0.125), "{stage}");
    }
    // Images decode, and prompts are text.
    let images = &runs["judged"]["images"];
    assert_eq!(images.as_object().unwrap().len(), 2);
    let first = &images["images/words/000"];
    assert_eq!((&first["size"], &first["pixels"]), (&json!([2, 1]), &json!([[255, 0, 0], [0, 0, 255]])));
    let about = "a \\*red\\* dog \\<b\\>\\|\n\nocr: 0.7500";
    assert_eq!(first["about"], about);
    assert_eq!(served["images"]["judged"]["images/words/000"], about, "{served:#}");
    // The table of parameters and scores.
    let groups = served["hparams"]["sessionGroups"].as_array().unwrap();
    let [group] = groups.as_slice() else { panic!("{groups:#?}") };
    assert_eq!((&group["name"], &group["sessions"][0]["status"]), (&json!("train"), &json!("STATUS_SUCCESS")));
    let params = &group["hparams"];
    assert_eq!(
        (&params["algorithm.noisy.noise"], &params["iterations"], &params["seed"]),
        (&json!(0.25), &json!(8.0), &json!(7.0))
    );
    let values = group["metricValues"].as_array().unwrap();
    let score = values.iter().find(|v| v["name"]["tag"] == "scores/words/ocr").unwrap();
    assert_eq!(score["value"], 0.75);
}

#[test]
fn tensorboard_reads_a_run_that_goes_on_or_went_on() {
    let Some(python) = python() else { return };
    let space = TestSpace::new();
    let slow = STAGES.replace("iterations: 8", "iterations: 40, step_seconds: 1.5");
    space.recipe("r.yaml", &slow);
    let child = space.start(&["run", "r.yaml", "--checkpoint-seconds", "0"]);
    space.wait_for("metric", |m| m["step"] == 2);
    let folder = latest(&space).join("tensorboard");
    // Within a second.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let before = read(&python, "read_tensorboard.py", &folder);
    let steps = before["runs"]["train"]["scalars"]["loss"].as_array().unwrap().len();
    assert!((2..40).contains(&steps), "{before:#}");
    let said = space.run(&["export", "--format", "mlflow", "-o", "now"]).expect(0).stderr;
    assert!(said.contains("the run goes on") && said.contains("`train` (running)"), "{said}");
    common::signal(common::pid(&child), libc::SIGINT);
    common::finish(child).expect(75);
    let stopped = read(&python, "read_tensorboard.py", &folder);
    assert!(
        stopped["served"]["hparams"]["sessionGroups"][0]["sessions"][0].get("status").is_none(),
        "stopped: unknown"
    );

    // Another run goes on, and has all steps in the end.
    space.recipe("r.yaml", &slow.replace("1.5", "0"));
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&["get", "r.yaml", "train.metrics", "-o", "metrics.jsonl"]).expect(0);
    let metrics = std::fs::read_to_string(space.path("metrics.jsonl")).unwrap();
    let metrics: Vec<Value> = metrics.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let after = read(&python, "read_tensorboard.py", &latest(&space).join("tensorboard"));
    let loss = after["runs"]["train"]["scalars"]["loss"].as_array().unwrap();
    assert_eq!((metrics.len(), loss.len()), (40, 40));
    for (point, metric) in loss.iter().zip(&metrics) {
        assert_eq!(point[0], metric["step"]);
        assert_eq!(number(&point[1]) as f32, metric["value"].as_f64().unwrap() as f32);
    }
    assert_eq!(after["served"]["points"]["train"]["loss"], 40, "{:#}", after["served"]);
}

/// A log that no recipe of ours makes: any names, numbers that are none, a stage that told some steps twice.
fn odd_log(space: &TestSpace) -> Vec<&'static str> {
    let names = vec!["a/b", "../up", "", ".", "line\nbreak", "\u{202e}rtl", "%2F", "scores", "é ü[x=1]"];
    let folder = space.path(".opdflow/runs/20260101T000000Z-odd-0000");
    std::fs::create_dir_all(&folder).unwrap();
    let stages: Vec<Value> = names.iter().map(|n| json!({"name": n, "kind": "fake_train", "needs": []})).collect();
    let started = json!({"format": 1, "version": "0", "recipe": "odd: \"name\"\n- x", "path": "r.yaml", "text": null, "seed": 1, "argv": [],
        "pid": 1, "slots": 1, "gpus": 0, "store": "", "stages": stages});
    let mut lines = vec![json!({"at": 1000.0, "event": {"run_started": started}})];
    let mut at = 1000.5;
    let mut tell = |event: Value| {
        at += 0.25;
        lines.push(json!({"at": at, "event": event}));
    };
    for stage in &names {
        tell(json!({"begun": {"stage": stage, "step": 0}}));
        for (step, value) in [(1, json!(0.1)), (2, json!(null)), (3, json!(1e300)), (4, json!(-0.0))] {
            for name in &names {
                tell(json!({"metric": {"stage": stage, "name": name, "step": step, "value": value}}));
            }
        }
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.join("events.jsonl"), text).unwrap();
    drop(space.run(&["verify"]));
    names
}

#[test]
fn odd_names_and_numbers_reach_tensorboard_as_they_are() {
    let Some(python) = python() else { return };
    let space = TestSpace::new();
    let names = odd_log(&space);
    space.run(&["export", "--format", "tensorboard", "-o", "board"]).expect(0);
    let found = read(&python, "read_tensorboard.py", &space.path("board"));
    let folders: Vec<&String> = found["runs"].as_object().unwrap().keys().collect();
    assert_eq!(folders.len(), names.len(), "{folders:?}");
    let escaped = |stage: &str| match stage {
        "a/b" => "a%2Fb".to_owned(),
        "../up" => "%2E.%2Fup".to_owned(),
        "" => "%".to_owned(),
        "." => "%2E".to_owned(),
        "line\nbreak" => "line%0Abreak".to_owned(),
        "\u{202e}rtl" => "%E2%80%AErtl".to_owned(),
        "%2F" => "%252F".to_owned(),
        "é ü[x=1]" => "%C3%A9 %C3%BC[x=1]".to_owned(),
        plain => plain.to_owned(),
    };
    let log = space.path(".opdflow/runs/20260101T000000Z-odd-0000/events.jsonl");
    assert_eq!(scalars_are_those_of(&log, &found["runs"], &found["served"], &escaped), 9 * 9 * 4);
}

#[test]
fn mlflow_reads_what_the_log_says() {
    let Some(python) = python() else { return };
    let space = finished();
    space.run(&["export", "--format", "mlflow", "-o", "a place"]).expect(0);
    let found = read(&python, "read_mlflow.py", &space.path("a place"));
    let runs = &found["test"];
    let run = latest(&space);
    let whole = &runs[run.file_name().unwrap().to_str().unwrap()];
    assert_eq!((&whole["status"], &whole["params"]["seed"]), (&json!("FINISHED"), &json!("7")), "{found:#}");
    let train = &runs["train"];
    assert_eq!(train["tags"]["mlflow.parentRunId"], whole["id"]);
    assert_eq!(
        (&train["params"]["algorithm.noisy.noise"], &train["params"]["iterations"]),
        (&json!("0.25"), &json!("8"))
    );
    let logged = logged(&run.join("events.jsonl"));
    let points = &logged[&("train".to_owned(), "loss".to_owned())];
    let history = train["metrics"]["loss"].as_array().unwrap();
    assert_eq!(history.len(), points.len());
    for (found, (step, value, at)) in history.iter().zip(points) {
        assert_eq!((found[0].as_u64(), number(&found[1]).to_bits()), (Some(*step), value.to_bits()));
        assert_eq!(found[2].as_f64().unwrap(), (at * 1000.0).round());
    }
    for (stage, mean) in [("train", 0.75), ("judged", 0.75), ("base", 0.5)] {
        assert_eq!(number(&runs[stage]["metrics"]["scores/words/ocr"][0][1]), mean);
        let errors = &runs[stage]["metrics"]["standard_error/words/ocr.exact"];
        assert_eq!(errors.get(0).map(|error| number(&error[1])), (stage != "base").then_some(0.125), "{stage}");
    }
    let images = ["images/words/000.png", "images/words/001.png", "params.json"];
    assert_eq!(runs["judged"]["artifacts"], json!(images));
    let note = runs["judged"]["tags"]["mlflow.note.content"].as_str().unwrap();
    assert!(note.contains("a \\*red\\* dog \\<b\\>\\|") && note.contains("ocr 0.750"), "{note}");
    // MLflow looked at it, and it can still be replaced.
    space.run(&["export", "--format", "mlflow", "-o", "a place", "--overwrite"]).expect(0);
}

#[test]
fn odd_names_and_numbers_reach_mlflow() {
    let Some(python) = python() else { return };
    let space = TestSpace::new();
    let names = odd_log(&space);
    space.run(&["export", "--format", "mlflow", "-o", "ml"]).expect(0);
    let found = read(&python, "read_mlflow.py", &space.path("ml"));
    let runs = &found["odd: \"name\"\n- x"];
    // MLflow gives a run without a name the one of its tag.
    assert_eq!(runs.as_object().unwrap().len(), names.len() + 1, "{:?}", runs.as_object().unwrap().keys());
    for stage in &names {
        let metrics = &runs[*stage]["metrics"];
        assert_eq!(runs[*stage]["status"], "KILLED");
        for name in [
            "a:2Fb",
            ":2E.:2Fup",
            ":",
            ":2E",
            "line:0Abreak",
            ":E2:80:AErtl",
            ":252F",
            "scores",
            ":C3:A9 :C3:BC:5Bx:3D1:5D",
        ] {
            let history = metrics[name].as_array().unwrap_or_else(|| panic!("no {name} in {metrics:#}"));
            let values: Vec<f64> = history.iter().map(|point| number(&point[1])).collect();
            assert!(values[0] == 0.1 && values[1].is_nan() && values[2] == 1e300 && values[3] == 0.0, "{values:?}");
        }
    }
}

#[test]
fn what_is_shared_has_no_prompts_and_no_paths() {
    let space = TestSpace::new();
    space.write("number", "1");
    space.recipe(
        "r.yaml",
        "train: {uses: fake_train, with: {iterations: 3}}
        words: {uses: fake_judge, needs: {lora: train.model}, with: {score: 0.5, prompts: [a secret dog]}}",
    );
    space.run(&["run", "r.yaml"]).expect(0);
    let secret = |folder: &str| {
        let here = space.path("").canonicalize().unwrap().display().to_string();
        let all: Vec<u8> = contents(&space.path(folder)).into_values().flatten().collect();
        let text = String::from_utf8_lossy(&all).into_owned();
        (text.contains("secret dog"), text.contains(here.trim_end_matches('/')))
    };
    for format in ["tensorboard", "mlflow"] {
        space.run(&["export", "--format", format, "-o", format]).expect(0);
        assert!(secret(format).0, "{format}");
        let shared = format!("{format}-shared");
        space.run(&["export", "--format", format, "-o", &shared, "--no-prompts"]).expect(0);
        assert_eq!(secret(&shared), (false, false), "{format}");
    }
}
