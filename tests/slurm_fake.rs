//! `opdflow run --on slurm` against programs of Slurm that answer as the tests want them to (`slurm/fake.sh`): what a real cluster does
//! too seldom to be waited for.
#![cfg(not(feature = "torch"))] // It is the same engine in both builds, and once is enough.
#![allow(missing_docs)]

mod common;

use common::{Ran, TestSpace, finish};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const RUN: [&str; 5] = ["run", "r.yaml", "--on", "slurm", "--json"];
const LONG: &str = "t: {uses: fake_train, with: {iterations: 100, step_seconds: 0.05}}";

struct Fake {
    space: TestSpace,
}

impl Fake {
    fn new(stages: &str) -> Self {
        let space = TestSpace::new();
        space.recipe("r.yaml", stages);
        space.write("slurm.yaml", "{poll_seconds: 1, late_seconds: 4}");
        let fake = Self { space };
        for folder in ["fake/jobs", "bin"] {
            std::fs::create_dir_all(fake.space.path(folder)).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/fake.sh");
        for name in ["sbatch", "squeue", "scancel", "sacct", "scontrol"] {
            symlink(&script, fake.space.path("bin").join(name)).unwrap();
        }
        fake
    }

    fn set(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.space.path("fake").join(name), text).unwrap();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut command = self.space.command(arguments);
        command.env("PATH", format!("{}:{path}", self.space.path("bin").display()));
        command.env("FAKE", self.space.path("fake")).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// The jobs that were ever submitted.
    fn submitted(&self) -> usize {
        let all = std::fs::read_dir(self.space.path("fake")).unwrap().flatten();
        all.filter(|e| e.file_name().to_string_lossy().starts_with("options.")).count()
    }

    fn texts(&self) -> Vec<String> {
        self.space.events_of("job").iter().filter_map(|e| e["text"].as_str().map(ToOwned::to_owned)).collect()
    }
}

#[test]
fn no_accounts_and_a_queue_that_forgets_are_enough() {
    let fake = Fake::new(&format!("{LONG}\n f: {{uses: fake_fail, with: {{message: alas, seconds: 1.5}}}}"));
    let ran = fake.set("forget", "").run(&RUN).expect(1);
    assert_eq!((ran.verdicts()["t"].as_str(), ran.verdicts()["f"].as_str()), ("run", "failed"));
    assert_eq!(ran.json()["stages"]["f"]["message"], "alas");
    assert_eq!(fake.submitted(), 2);
}

#[test]
fn what_is_seen_late_is_waited_for() {
    let fake = Fake::new("f: {uses: fake_fail, with: {message: alas}}");
    let ran = fake.set("late", "").run(&RUN).expect(1);
    assert_eq!(ran.json()["stages"]["f"]["message"], "alas");
    assert_eq!(fake.submitted(), 1, "{:?}", fake.texts());
}

#[test]
fn a_job_that_was_taken_without_an_answer_is_not_submitted_twice() {
    let fake = Fake::new(LONG);
    fake.set("timed-out", "").run(&RUN).expect(0);
    assert_eq!(fake.submitted(), 1);
    assert!(fake.texts().iter().any(|t| t.contains("Socket timed out")), "{:?}", fake.texts());
}

#[test]
fn a_queue_that_is_full_or_silent_is_waited_for() {
    let fake = Fake::new(LONG);
    fake.set("say-sbatch", "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy\n");
    let run = fake.command(&RUN).spawn().unwrap();
    fake.space
        .wait_for("job", |e| e["text"].as_str().is_some_and(|t| t.starts_with("Slurm takes no more jobs for now")));
    fake.set("say-squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n");
    std::fs::remove_file(fake.space.path("fake/say-sbatch")).unwrap();
    fake.space.wait_for("job", |e| e["text"].as_str().is_some_and(|t| t.starts_with("Slurm gives no answer, waiting")));
    std::fs::remove_file(fake.space.path("fake/say-squeue")).unwrap();
    finish(run).expect(0);
    assert_eq!(fake.submitted(), 1);
}

#[test]
fn a_job_that_slurm_refuses_is_the_user_s_fault_in_slurm_s_words() {
    let fake = Fake::new(&format!("{LONG}\n end: {{uses: fake_report, needs: {{parts: {{t: t.model}}}}}}"));
    fake.set("say-sbatch", "sbatch: error: invalid partition specified: gqu\nsbatch: error: Batch job submission failed: Invalid partition name specified\n");
    let ran = fake.run(&RUN).expect(1);
    let message = ran.json()["stages"]["t"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("invalid partition specified: gqu") && message.contains("slurm.yaml says"), "{message}");
    assert_eq!(ran.verdicts()["end"], "blocked");
}

/// It has to give way: either it is put back into the queue under its number, or it is over and another one is submitted.
#[test]
fn giving_way_is_no_failure() {
    for (how, jobs) in [("requeue", 1), ("preempt", 2)] {
        let fake = Fake::new(LONG);
        let ran = fake.set(how, "").run(&RUN).expect(0);
        assert_eq!(ran.verdicts()["t"], "resumed", "{how}");
        assert_eq!(fake.submitted(), jobs, "{how}: {:?}", fake.texts());
        assert!(fake.space.events_of("retried").is_empty());
    }
}

#[test]
fn a_number_that_is_another_s_by_now_is_not_waited_for() {
    let fake = Fake::new("t: {uses: fake_train, with: {iterations: 60, step_seconds: 0.05}}");
    // The first is killed and its number given away: lost, and tried once more. The second has the last word itself.
    fake.set("kill-once", "").set("reuse", "").run(&RUN).expect(0);
    let why = fake.space.events_of("retried");
    assert!(why.len() == 1 && why[0]["message"].to_string().contains("does not know its job any more"), "{why:?}");
    assert_eq!(fake.submitted(), 2);
}

#[test]
fn two_time_limits_without_a_checkpoint_are_a_fault_with_the_way_out() {
    let fake = Fake::new("t: {uses: fake_train, with: {iterations: 3, step_seconds: 60}}");
    fake.space.write("slurm.yaml", "{poll_seconds: 1, late_seconds: 1, time: 10}");
    let ran = fake.set("kill", "TIMEOUT").run(&RUN).expect(1);
    let message = ran.json()["stages"]["t"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("two of its jobs in a row") && message.contains("raise `time` in slurm.yaml"),
        "{message}"
    );
    assert_eq!(fake.submitted(), 2);
}

/// Names, folders and variables of a user mean nothing to any shell.
#[test]
fn nothing_of_a_user_s_is_read_by_the_shell() {
    let fake = Fake::new("a: {uses: fake_source, with: {variable: OPDFLOW_NUMBER}}");
    let folder = fake.space.path("it's $(touch pwned) `touch pwned` 100% \"ü\" \\ ;&|");
    std::fs::create_dir(&folder).unwrap();
    for file in ["r.yaml", "slurm.yaml"] {
        std::fs::copy(fake.space.path(file), folder.join(file)).unwrap();
    }
    let mut command = fake.command(&RUN);
    command
        .current_dir(&folder)
        .env("OPDFLOW_NUMBER", "42")
        .env("OPDFLOW_WORDS", "'; touch pwned; echo $(touch pwned) '\n`x`");
    finish(command.spawn().unwrap()).expect(0);
    let pwned =
        common::files(&fake.space.path("")).into_iter().filter(|p| p.ends_with("pwned")).collect::<Vec<PathBuf>>();
    assert!(pwned.is_empty(), "{pwned:?}");
    let mut got = fake.command(&["get", "r.yaml", "a.value", "-o", "-"]);
    assert_eq!(finish(got.current_dir(&folder).spawn().unwrap()).expect(0).stdout.trim(), "42");
}

/// A token is in no file of the run; the job has it from the environment of `sbatch`.
#[test]
fn a_token_is_written_into_no_script() {
    let fake = Fake::new("a: {uses: fake_source, with: {variable: OPDFLOW_REWARD_JUDGE_TOKEN}}");
    let mut command = fake.command(&RUN);
    command.env("OPDFLOW_REWARD_JUDGE_TOKEN", "4711").env("OPDFLOW_REWARD_JUDGE_URL", "http://h/v1");
    finish(command.spawn().unwrap()).expect(0);
    fake.run(&["get", "r.yaml", "a.value", "-o", "value"]).expect(0);
    assert_eq!(std::fs::read_to_string(fake.space.path("value")).unwrap().trim(), "4711");
    let written = common::files(&fake.space.path(".opdflow")).into_iter();
    let texts: Vec<String> = written.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    assert!(texts.iter().any(|t| t.contains("OPDFLOW_REWARD_JUDGE_URL='http://h/v1'")), "{texts:?}");
    assert!(!texts.iter().any(|t| t.contains("4711") || t.contains("JUDGE_TOKEN=")), "{texts:?}");
}

#[test]
fn a_script_that_ends_before_the_stage_begins_says_so() {
    let fake = Fake::new("a: {uses: fake_source, with: {value: 1}}");
    fake.space.write("slurm.yaml", "{poll_seconds: 1, late_seconds: 1, setup: ['echo no such module >&2; exit 3']}");
    let ran = fake.run(&RUN).expect(3);
    // Nobody keeps accounts here: that it failed is all that is known, and it is tried once more.
    assert_eq!(fake.submitted(), 2);
    assert!(fake.space.run(&["logs", "a"]).expect(0).stdout.contains("no such module"), "{}", ran.stderr);
}

#[test]
fn a_profile_is_asked_for_and_checked_before_anything_runs() {
    let fake = Fake::new("a: {uses: fake_source, with: {value: 1}}");
    std::fs::rename(fake.space.path("slurm.yaml"), fake.space.path("other.yaml")).unwrap();
    let mut command = fake.command(&RUN);
    command.env_remove("OPDFLOW_SLURM").env("HOME", fake.space.path("")).env_remove("XDG_CONFIG_HOME");
    let ran = finish(command.spawn().unwrap()).expect(2);
    assert!(ran.stdout.contains("E060") && ran.stdout.contains("--on slurm=FILE"), "{}", ran.stdout);
    fake.space.write("wrong.yaml", "partition: gpu\nkinds: {fake_trian: {time: 60}}\n");
    let checked = fake.run(&["check", "r.yaml", "--on", "slurm=wrong.yaml"]).expect(2);
    assert!(checked.stderr.contains("E031") && checked.stderr.contains("wrong.yaml:2:9"), "{}", checked.stderr);
    fake.run(&["check", "r.yaml", "--on", "slurm=other.yaml"]).expect(0);
    let usage = fake.run(&["run", "r.yaml", "--on", "kubernetes"]).expect(2);
    assert!(usage.stderr.contains("expected `slurm`"), "{}", usage.stderr);
    fake.run(&["run", "r.yaml", "--on", "slurm=other.yaml", "-j", "2"]).expect(2);
    assert_eq!(fake.submitted(), 0);
    fake.run(&["run", "r.yaml", "--on", "slurm=other.yaml"]).expect(0);
}

/// Elsewhere a run goes on without its records; jobs need them.
#[test]
fn a_folder_that_cannot_be_written_to_is_told_before_anything_is_submitted() {
    let fake = Fake::new("a: {uses: fake_source, with: {value: 1}}");
    fake.space.write("file", "");
    let ran = fake.run(&[&RUN[..], &["--run-dir", "file"]].concat());
    assert!(ran.code == 3 && ran.stdout.contains("a folder that all nodes see"), "{ran:?}");
    assert_eq!(fake.submitted(), 0);
}

/// A machine without Slurm is told before anything starts, and a run of hits needs none.
#[test]
fn a_machine_without_slurm_can_show_what_the_store_has() {
    let fake = Fake::new("a: {uses: fake_source, with: {value: 1}}");
    let without = || {
        let mut command = fake.space.command(&RUN);
        finish(command.env("PATH", "/nonexistent").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    let ran = without().expect(3);
    assert!(ran.stdout.contains("there is no `sbatch` on this machine"), "{}", ran.stdout);
    fake.space.run(&["run", "r.yaml"]).expect(0);
    assert_eq!(without().expect(0).verdicts()["a"], "hit");
}

/// Of a stage's processes on several nodes one lacks memory: all begin anew, and are told how often.
#[test]
fn processes_on_several_nodes_begin_anew_with_half_the_micro_batch() {
    let space = TestSpace::new();
    let job = |script: &str, number: &str| {
        let files = space.path("s").display().to_string();
        let ran = space.run(&["__job", &files, number, "--", "sh", "-c", script]);
        (ran.code, std::fs::read_to_string(space.path(&format!("s.{number}.events"))).unwrap())
    };
    let (code, events) = job("echo $OPDFLOW_HALVINGS; [ $OPDFLOW_HALVINGS = 2 ] || exit 79", "1");
    assert_eq!((code, events.lines().filter(|l| l.len() == 1).collect::<String>()), (0, "012".to_owned()), "{events}");
    let (code, events) = job("exit 79", "2");
    assert!(code == 71 && events.contains("\"code\":71"), "{code} {events}");
    // Killed, it says by what; the script of the job ends as a shell would.
    let (code, events) = job("kill -9 $$", "3");
    assert!(code == 137 && events.contains("\"signal\":9"), "{code} {events}");
}

/// At most so many jobs are in the queue, and each may have what it asks for.
#[test]
fn jobs_are_bounded() {
    let fake = Fake::new(
        "a: {uses: fake_source, matrix: {n: [1, 2, 3, 4, 5]}, with: {value: \"${matrix.n}\", seconds: 0.5}, resources: {cpus: 3}}",
    );
    fake.space.write("slurm.yaml", "{poll_seconds: 1, late_seconds: 4, jobs: 2, node: {cpus: 2}}");
    fake.run(&RUN).expect(0);
    let (mut now, mut most) = (0, 0);
    for event in fake.space.events() {
        now += i32::from(event.get("started").is_some()) - i32::from(event.get("done").is_some());
        most = most.max(now);
    }
    assert_eq!((fake.submitted(), most), (5, 2));
    assert!(fake.space.events_of("started").iter().all(|e| e["threads"] == 2), "no more than a node has");
}
