//! `opdflow run` with the real program and stages that compute nothing of use.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, finish, pid, signal};
use serde_json::{Value, json};

const CHAIN: &str = "
    a: {uses: fake_source, with: {value: 3}}
    b: {uses: fake_source, with: {value: 4}}
    sum: {uses: fake_sum, needs: {terms: {a: a.value, b: b.value}}, with: {modulo: 5}}
    train: {uses: fake_train, needs: {base: sum.value}, with: {iterations: 6}}
    report: {uses: fake_report, needs: {parts: {model: train.model, sum: sum.value}}, with: {title: \"the end\"}}
";

fn chain() -> TestSpace {
    let space = TestSpace::new();
    space.recipe("r.yaml", CHAIN);
    space
}

#[test]
fn the_second_run_computes_nothing() {
    let space = chain();
    let first = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert!(first.verdicts().values().all(|v| v == "run"), "{:?}", first.verdicts());
    let second = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert!(second.verdicts().values().all(|v| v == "hit"), "{:?}", second.verdicts());
    assert_eq!(first.outputs(), second.outputs());
    assert!(space.events_of("started").is_empty());
    assert!(common::files(&space.path(".opdflow/runs/latest/jobs")).is_empty());
}

/// What a kind wants in its process's environment is there, unless the user has set it.
#[test]
fn a_stage_finds_its_environment() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "a: {uses: fake_source, with: {value: 2, variable: OPDFLOW_TEST_NUMBER}}");
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&["get", "r.yaml", "a.value", "-o", "value"]).expect(0);
    assert_eq!(std::fs::read_to_string(space.path("value")).unwrap(), "42");
    let forced = space.command(&["run", "r.yaml", "--force", "a"]).env("OPDFLOW_TEST_NUMBER", "5").output().unwrap();
    let said = String::from_utf8_lossy(&forced.stderr).into_owned();
    assert!(forced.status.success() && said.contains("gave another result"), "{said}");
}

#[test]
fn what_a_stage_says_of_itself_stands_on_its_lines() {
    let space = chain();
    let ran = space.run(&["run", "r.yaml"]).expect(0);
    let line = ran.stderr.lines().find(|l| l.contains("done train")).expect("a line");
    assert!(line.contains("loss 0."), "{line}");
    let status = space.run(&["status", "--json"]).expect(0).json();
    assert!(status["stages"]["train"]["note"].as_str().is_some_and(|n| n.starts_with("loss 0.")), "{status}");
}

#[test]
fn json_is_one_object_at_the_end() {
    let space = chain();
    let ran = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!(ran.stdout.lines().count(), 1);
    let json = ran.json();
    assert_eq!((&json["recipe"], &json["ok"]), (&json!("test"), &json!(true)));
    assert!(json["seconds"].as_f64().is_some_and(|s| s > 0.0));
    let run = json["run"].as_str().unwrap();
    assert!(space.path(&format!(".opdflow/runs/{run}/recipe.yaml")).is_file());
    let stage = &json["stages"]["sum"];
    assert_eq!(stage["key"].as_str().map(str::len), Some(64));
    assert_eq!(stage["outputs"]["value"].as_str().map(str::len), Some(64));
    assert!(ran.stderr.contains("done sum"), "{}", ran.stderr);
}

#[test]
fn markdown_goes_to_stdout_and_files_to_the_run_folder() {
    let space = chain();
    for _ in 0..2 {
        let ran = space.run(&["run", "r.yaml"]).expect(0);
        assert!(ran.stdout.starts_with("the end\n"), "{}", ran.stdout);
        let copy = std::fs::read_to_string(space.path(".opdflow/runs/latest/outputs/report.md")).unwrap();
        assert_eq!(ran.stdout, copy);
        assert!(ran.stderr.contains("/outputs: report.md, report.report\n"), "{}", ran.stderr);
    }
    let quiet = space.run(&["run", "r.yaml", "--quiet"]).expect(0);
    assert!(quiet.stdout.starts_with("the end\n"));
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_changed_value_that_gives_the_same_output_cuts_off() {
    let space = chain();
    space.run(&["run", "r.yaml"]).expect(0);
    space.recipe("r.yaml", &CHAIN.replace("value: 3", "value: 8"));
    let verdicts = space.run(&["run", "r.yaml", "--json"]).expect(0).verdicts();
    let of = |v: &str| verdicts.iter().filter(|(_, x)| *x == v).map(|(n, _)| n.as_str()).collect::<Vec<_>>();
    assert_eq!(of("run"), ["a", "sum"]);
    assert_eq!(of("hit"), ["b", "report", "train"]);
}

#[test]
fn a_longer_run_goes_on_from_the_shorter_one() {
    let space = TestSpace::new();
    let recipe = |n: u32| space.recipe("r.yaml", &format!("t: {{uses: fake_train, with: {{iterations: {n}}}}}"));
    recipe(5);
    space.run(&["run", "r.yaml"]).expect(0);
    recipe(9);
    let ran = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!(ran.verdicts()["t"], "resumed");
    let other = TestSpace::new();
    other.recipe("r.yaml", "t: {uses: fake_train, with: {iterations: 9}}");
    let straight = other.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!(straight.outputs()["t.model"], ran.outputs()["t.model"]);
}

#[test]
fn independent_branches_finish_when_one_fails() {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        "bad: {uses: fake_fail, with: {message: \"no such file\\nhelp: make one\"}}
        after: {uses: fake_sum, needs: {terms: {x: bad.value}}}
        later: {uses: fake_sum, needs: {terms: {x: after.value}}}
        good: {uses: fake_source, with: {value: 1, seconds: 0.3}}
        sum: {uses: fake_sum, needs: {terms: {x: good.value}}}
        end: {uses: fake_report, needs: {parts: {a: later.value, b: sum.value}}}",
    );
    let ran = space.run(&["run", "r.yaml", "--json"]).expect(1);
    let expected = [
        ("after", "blocked"),
        ("bad", "failed"),
        ("end", "blocked"),
        ("good", "run"),
        ("later", "blocked"),
        ("sum", "run"),
    ];
    assert_eq!(ran.verdicts(), expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    assert_eq!(ran.json()["ok"], json!(false));
    assert!(ran.stderr.contains("no such file") && ran.stderr.contains("help: make one"), "{}", ran.stderr);
    assert!(ran.stderr.contains("logs/bad.log"), "{}", ran.stderr);
}

#[test]
fn only_the_machine_s_faults_are_tried_again() {
    let space = TestSpace::new();
    for (with, starts, code) in [
        ("class: user", 1, 1),
        ("class: not_finite", 1, 1),
        ("class: bug", 1, 1),
        ("panic: true", 1, 1),
        ("class: machine", 2, 3),
    ] {
        space.recipe("r.yaml", &format!("f: {{uses: fake_fail, with: {{{with}}}}}"));
        space.run(&["run", "r.yaml"]).expect(code);
        assert_eq!(space.events_of("started").len(), starts, "{with}");
    }
}

#[test]
fn a_lost_child_is_started_again_and_goes_on() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "t: {uses: fake_train, with: {iterations: 40, step_seconds: 0.02}}");
    let run = space.start(&["run", "r.yaml", "--json"]);
    space.wait_for("checkpointed", |e| e["step"].as_u64() > Some(2));
    signal(space.children()[0], libc::SIGKILL);
    let ran = finish(run).expect(0);
    assert_eq!(ran.verdicts()["t"], "resumed");
    assert!(ran.stderr.contains("SIGKILL"), "{}", ran.stderr);
    assert_eq!(space.events_of("started").len(), 2);
}

#[test]
fn ctrl_c_stops_at_a_checkpoint_and_the_same_command_goes_on() {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        "t: {uses: fake_train, with: {iterations: 60, step_seconds: 0.03}}
        end: {uses: fake_report, needs: {parts: {t: t.model}}}",
    );
    let run = space.start(&["run", "r.yaml", "--json"]);
    space.wait_for("checkpointed", |e| e["step"].as_u64() > Some(2));
    signal(pid(&run), libc::SIGINT);
    let ran = finish(run).expect(75);
    assert_eq!(ran.verdicts()["t"], "stopped");
    assert_eq!(ran.verdicts()["end"], "stopped");
    assert!(ran.stderr.contains("waiting for checkpoints"), "{}", ran.stderr);
    let again = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!(again.verdicts()["t"], "resumed");

    let other = TestSpace::new();
    other.recipe(
        "r.yaml",
        "t: {uses: fake_train, with: {iterations: 60}}\nend: {uses: fake_report, needs: {parts: {t: t.model}}}",
    );
    assert_eq!(other.run(&["run", "r.yaml", "--json"]).expect(0).outputs(), again.outputs());
}

#[test]
fn the_second_ctrl_c_ends_a_stage_that_does_not_listen() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "s: {uses: fake_source, with: {value: 1, seconds: 120}}");
    let run = space.start(&["run", "r.yaml"]);
    let stage = space.wait_for("started", |_| true)["pid"]
        .as_i64()
        .and_then(|p| i32::try_from(p).ok())
        .expect("a process number");
    common::wait_until("the stage listens to signals", || common::catches(stage, libc::SIGTERM));
    let interrupt = |stopping: usize| {
        signal(pid(&run), libc::SIGINT);
        space.wait_for("stopping", |_| space.events_of("stopping").len() == stopping);
    };
    interrupt(1);
    interrupt(2);
    finish(run).expect(130);
}

#[test]
fn two_runs_at_once_compute_each_key_once() {
    let space = TestSpace::new();
    let mut stages = String::new();
    for i in 0..4 {
        stages += &format!("t{i}: {{uses: fake_train, with: {{iterations: 10, step_seconds: 0.02}}, seed: {i}}}\n");
    }
    stages += "sum: {uses: fake_report, needs: {parts: {a: t0.model, b: t1.model, c: t2.model, d: t3.model}}}";
    space.recipe("r.yaml", &stages);
    let runs = [(); 2].map(|()| space.start(&["run", "r.yaml", "--json", "-j", "2"]));
    let [a, b] = runs.map(|r| finish(r).expect(0));
    assert_eq!(a.outputs(), b.outputs());
    for (stage, verdict) in a.verdicts() {
        let both = [verdict, b.verdicts()[&stage].clone()];
        assert!(both.contains(&"run".to_owned()) && both.contains(&"hit".to_owned()), "{stage}: {both:?}");
    }
}

#[test]
fn equal_stages_of_one_recipe_are_computed_once() {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        "x: {uses: fake_train, with: {iterations: 5}}
        y: {uses: fake_train, with: {iterations: 5}}
        end: {uses: fake_report, needs: {parts: {x: x.model, y: y.model}}}",
    );
    let ran = space.run(&["run", "r.yaml", "--json", "-j", "4"]).expect(0);
    assert_eq!((ran.verdicts()["x"].as_str(), ran.verdicts()["y"].as_str()), ("run", "hit"));
}

#[test]
fn a_store_that_cannot_be_written_is_named() {
    let space = chain();
    space.write("file", "");
    let ran = space.run(&["run", "r.yaml", "--store", "file/store"]).expect(3);
    assert!(ran.stderr.contains("cannot write to file") && ran.stderr.contains("OPDFLOW_STORE"), "{}", ran.stderr);
}

#[test]
fn records_that_cannot_be_kept_do_not_break_a_run() {
    let space = chain();
    space.write(".opdflow", "in the way");
    let ran = space.run(&["run", "r.yaml"]).expect(0);
    assert!(ran.stderr.contains("warning") && ran.stderr.contains("recorded in"), "{}", ran.stderr);
}

#[test]
fn a_cut_blob_turns_a_hit_into_a_run() {
    let space = chain();
    let first = space.run(&["run", "r.yaml", "--json"]).expect(0);
    let blob = space.blobs("7").into_iter().chain(space.blobs("2")).next().expect("the sum");
    space.damage(&blob, b"");
    let ran = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!(ran.verdicts()["sum"], "run");
    assert_eq!(ran.verdicts()["train"], "hit");
    assert_eq!(ran.outputs(), first.outputs());
    assert!(ran.stderr.contains("damaged sum"), "{}", ran.stderr);
}

#[test]
fn a_blob_that_rotted_in_place_is_found_by_its_reader() {
    let space = chain();
    space.run(&["run", "r.yaml"]).expect(0);
    let blob = space.blobs("2").into_iter().next().expect("the sum");
    space.damage(&blob, b"9");
    // The changed stage has to read the sum, finds it rotten, and has it made again.
    space.recipe("r.yaml", &CHAIN.replace("iterations: 6", "iterations: 7"));
    let ran = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!(ran.verdicts()["sum"], "run", "{}", ran.stderr);
    assert!(ran.stderr.contains("damaged sum"), "{}", ran.stderr);
    let clean = TestSpace::new();
    clean.recipe("r.yaml", &CHAIN.replace("iterations: 6", "iterations: 7"));
    assert_eq!(
        clean.run(&["run", "r.yaml", "--json"]).expect(0).outputs()["train.model"],
        ran.outputs()["train.model"]
    );
}

#[test]
fn a_final_table_is_read_before_it_counts_as_a_hit() {
    let space = chain();
    let good = space.run(&["run", "r.yaml"]).expect(0).stdout;
    let blob = space.blobs(&good).into_iter().next().expect("the report");
    space.damage(&blob, good.to_uppercase().as_bytes());
    let ran = space.run(&["run", "r.yaml"]).expect(0);
    assert_eq!(ran.stdout, good);
    assert!(ran.stderr.contains("damaged report"), "{}", ran.stderr);
}

#[test]
fn until_leaves_the_rest_alone_and_force_computes_again() {
    let space = chain();
    let ran = space.run(&["run", "r.yaml", "--json", "--until", "sum"]).expect(0);
    assert_eq!(ran.verdicts().keys().collect::<Vec<_>>(), ["a", "b", "sum"]);
    let ran = space.run(&["run", "r.yaml", "--json", "--force", "sum"]).expect(0);
    assert_eq!((ran.verdicts()["a"].as_str(), ran.verdicts()["sum"].as_str()), ("hit", "run"));
    let ran = space.run(&["run", "r.yaml", "--until", "smu"]).expect(2);
    assert!(ran.stderr.contains("did you mean `sum`?"), "{}", ran.stderr);
}

#[test]
fn each_gpu_stage_gets_an_id_of_its_own() {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        "x: {uses: fake_train, with: {iterations: 20, step_seconds: 0.02}, seed: 1}
        y: {uses: fake_train, with: {iterations: 20, step_seconds: 0.02}, seed: 2}
        end: {uses: fake_report, needs: {parts: {x: x.model, y: y.model}}}",
    );
    let mut command = space.command(&["run", "r.yaml", "-j", "4"]);
    command.env("OPDFLOW_GPUS", "2").env("CUDA_VISIBLE_DEVICES", "5,7");
    assert!(command.output().expect("runs").status.success());
    let mut devices: Vec<_> = space.events_of("started").iter().map(|e| e["device"].clone()).collect();
    devices.sort_by_key(Value::to_string);
    assert_eq!(devices, ["cpu", "cuda:5", "cuda:7"]);
}

#[test]
fn a_stage_that_wants_more_threads_than_there_are_gets_what_there_is() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "s: {uses: fake_source, with: {value: 1}, resources: {cpus: 64}}");
    space.run(&["run", "r.yaml", "-j", "2"]).expect(0);
    assert_eq!(space.events_of("started")[0]["threads"], json!(2));
}

#[test]
fn a_run_of_hits_is_cheap() {
    let space = TestSpace::new();
    let mut stages = "s0: {uses: fake_source, with: {value: 0}}\n".to_owned();
    for i in 1..20 {
        stages += &format!("s{i}: {{uses: fake_sum, needs: {{terms: {{x: s{}.value}}}}, with: {{plus: 1}}}}\n", i - 1);
    }
    space.recipe("r.yaml", &stages);
    space.run(&["run", "r.yaml"]).expect(0);
    let before = cpu_seconds_of_children();
    space.run(&["run", "r.yaml"]).expect(0);
    let spent = cpu_seconds_of_children() - before;
    println!("20 hits: {spent:.3} CPU seconds");
    // Other tests of this program run at the same time and their children count too: only a bound against folly.
    assert!(spent < 5.0, "{spent}");
}

fn cpu_seconds_of_children() -> f64 {
    // SAFETY: `usage` is a plain structure for the system to fill in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    #[expect(clippy::cast_precision_loss, reason = "seconds of a test")]
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

#[test]
fn fail_fast_stops_the_others() {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        "bad: {uses: fake_fail}
        slow: {uses: fake_train, with: {iterations: 2000, step_seconds: 0.02}}
        end: {uses: fake_report, needs: {parts: {a: bad.value, b: slow.model}}}",
    );
    let ran = space.run(&["run", "r.yaml", "--json", "--fail-fast", "-j", "2"]).expect(1);
    let expected = [("bad", "failed"), ("end", "blocked"), ("slow", "stopped")];
    assert_eq!(ran.verdicts(), expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
}

#[test]
fn runs_are_recorded_where_one_likes() {
    let space = chain();
    space.run(&["run", "r.yaml", "--run-dir", "records"]).expect(0);
    assert!(space.path("records/runs/latest/events.jsonl").is_file());
    assert!(!space.path(".opdflow").exists());
    let status = space.run(&["status", "--run-dir", "records"]).expect(0);
    assert!(status.stdout.contains("complete"), "{}", status.stdout);
}

#[test]
fn how_often_stages_checkpoint_is_the_user_s_choice_and_not_in_the_key() {
    let space = chain();
    let seconds = |space: &TestSpace| {
        let text = std::fs::read_to_string(space.path(".opdflow/runs/latest/jobs/train.json")).expect("a job");
        serde_json::from_str::<Value>(&text).expect("JSON")["checkpoint_seconds"].clone()
    };
    let first = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!(seconds(&space), json!(60.0));
    let mut command = space.command(&["run", "r.yaml", "--force", "train"]);
    assert!(command.env("OPDFLOW_CHECKPOINT_SECONDS", "0.5").output().expect("runs").status.success());
    assert_eq!(seconds(&space), json!(0.5));
    let mut command = space.command(&["run", "r.yaml", "--force", "train", "--checkpoint-seconds", "2"]);
    assert!(command.env("OPDFLOW_CHECKPOINT_SECONDS", "0.5").output().expect("runs").status.success());
    assert_eq!(seconds(&space), json!(2.0));
    let again = space.run(&["run", "r.yaml", "--json", "--checkpoint-seconds", "3"]).expect(0);
    assert!(again.verdicts().values().all(|v| v == "hit"));
    assert_eq!(first.outputs(), again.outputs());
    assert!(space.run(&["run", "r.yaml", "--checkpoint-seconds=-1"]).expect(2).stderr.contains("expected seconds"));
}
