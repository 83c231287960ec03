//! Runs and a store that other hosts use, too: node7 is made up, and what it would leave is written here.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, finish, pid, signal, wait_until};
use opdflow_cache::Store;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TOKEN: &str = "0123456789abcdef";

/// A process of node7, and the sign that it gives in the store until this is dropped.
struct Node7 {
    sign: PathBuf,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn user(pid: u32) -> Value {
    json!({"token": TOKEN, "host": "node7", "host_id": "feedfeedfeedfeed", "pid": pid, "start": 5, "since": "2026-01-01T00:00:00Z"})
}

impl Node7 {
    fn lives(space: &TestSpace, pid: u32) -> Self {
        let users = space.store().join("users");
        let (sign, over) = (users.join(format!("{TOKEN}.json")), Arc::new(AtomicBool::new(false)));
        let (path, ends) = (sign.clone(), over.clone());
        let beat = move || {
            for beat in 1.. {
                let mut text = user(pid);
                text["role"] = json!("uses");
                text["beat"] = json!(beat);
                let temp = users.join(format!(".{TOKEN}"));
                std::fs::write(&temp, text.to_string()).unwrap();
                std::fs::rename(&temp, &path).unwrap();
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        let thread = Some(std::thread::spawn(beat));
        wait_until("it gives a sign", || sign.exists());
        Self { sign, over, thread }
    }
}

impl Drop for Node7 {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        std::fs::remove_file(&self.sign).unwrap();
    }
}

fn space() -> TestSpace {
    let space = TestSpace::new();
    Store::open(&space.store()).unwrap();
    space
}

/// A run that node7 has begun, with a stage; the numbers of their processes are those of processes of this host.
fn run_of_node7(space: &TestSpace, run: &Child, stage: &Child) {
    let folder = space.path(".opdflow/runs/20260101-000000-r-abcd");
    std::fs::create_dir_all(folder.join("jobs")).unwrap();
    let started = json!({"format": 1, "version": "", "recipe": "r", "path": "r.yaml", "text": null, "seed": 0, "argv": [],
        "pid": run.id(), "host": "node7", "host_id": "feedfeedfeedfeed", "token": TOKEN, "slots": 1, "gpus": 0,
        "store": space.store(), "stages": [{"name": "t", "kind": "fake_train", "needs": []}]});
    let stage = json!({"stage": "t", "pid": stage.id(), "attempt": 1, "threads": 1, "device": "cpu"});
    let lines =
        [json!({"at": 1.0, "event": {"run_started": started}}), json!({"at": 2.0, "event": {"started": stage}})];
    std::fs::write(folder.join("events.jsonl"), lines.map(|l| format!("{l}\n")).concat()).unwrap();
}

#[test]
fn processes_of_another_host_are_named_and_never_signalled() {
    let space = space();
    let mut run = Command::new("sleep").arg("60").spawn().unwrap();
    // A process of this host that looks just like the other host's stage: the same number, the same job.
    let job = space.path(".opdflow/runs/20260101-000000-r-abcd/jobs/t.json");
    std::fs::create_dir_all(job.parent().unwrap()).unwrap();
    std::fs::write(&job, "{}").unwrap();
    let script = space.path("__stage");
    std::fs::write(&script, "while :; do sleep 0.02; done\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut stage = Command::new("sh").arg("__stage").arg(&job).current_dir(space.path("")).spawn().unwrap();
    run_of_node7(&space, &run, &stage);

    let alive = Node7::lives(&space, run.id());
    let seen = space.run(&["status", "--json"]).expect(0).json();
    assert_eq!((&seen["state"], &seen["alive"], &seen["host"]), (&json!("running"), &json!(true), &json!("node7")));
    let text = space.run(&["status"]).expect(0).stdout;
    assert!(text.contains(&format!("running (process {} on node7)", run.id())), "{text}");
    // It is asked by a file in its folder, which nobody reads here.
    let asked = space.run(&["stop", "--now"]).expect(0).stderr;
    assert!(asked.contains(&format!("(process {} on node7) gave no sign in 10 s", run.id())), "{asked}");
    assert!(space.path(".opdflow/runs/20260101-000000-r-abcd/stop-now").exists());
    // It has ended, without a last word.
    drop(alive);
    let seen = space.run(&["status", "--json"]).expect(0).json();
    assert_eq!((&seen["state"], &seen["alive"]), (&json!("died"), &json!(false)), "{seen}");
    assert_eq!(seen["stages"]["t"]["state"], json!("gone"), "{seen}");
    let text = space.run(&["status"]).expect(0).stdout;
    assert!(text.contains(&format!("died without a last word, as process {} on node7", run.id())), "{text}");
    space.run(&["stop", "--now", "--wait"]).expect(0);
    let watched = space.run(&["watch"]).expect(1).stderr;
    assert!(watched.contains("on node7"), "{watched}");
    for process in [&mut run, &mut stage] {
        assert!(process.try_wait().unwrap().is_none(), "a process of this host was ended for one of another");
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

#[test]
fn what_another_host_computes_is_waited_for_by_its_name() {
    const STAGE: &str = "t: {uses: fake_train, with: {iterations: 3}}";
    let first = TestSpace::new();
    first.recipe("r.yaml", STAGE);
    first.run(&["run", "r.yaml"]).expect(0);
    let lineage = first.events_of("keyed")[0]["lineage"].as_str().unwrap().to_owned();

    let space = space();
    space.recipe("r.yaml", STAGE);
    let alive = Node7::lives(&space, 4711);
    let claims = space.store().join("leases").join(format!("{lineage}.claims"));
    std::fs::create_dir_all(&claims).unwrap();
    let held = json!({"held": {"user": user(4711), "locked": true, "mark": "1111111111111111"}});
    std::fs::write(claims.join("0000000004"), held.to_string()).unwrap();
    let run = space.start(&["run", "r.yaml", "--plain"]);
    let waits = space.wait_for("waits", |_| true);
    assert_eq!((&waits["pid"], &waits["host"]), (&json!(4711), &json!("node7")));
    let json = space.run(&["status", "--json"]).expect(0).json();
    assert_eq!(json["stages"]["t"]["message"], json!("another run (process 4711 on node7) computes it: "), "{json}");
    // It gives the lease back.
    std::fs::write(claims.join("0000000004"), json!({"free": "1111111111111111"}).to_string()).unwrap();
    let ran = finish(run).expect(0);
    let said = ran.stdout + &ran.stderr;
    assert!(said.contains("another run (process 4711 on node7) computes it"), "{said}");
    drop(alive);
}

#[test]
fn nobody_sweeps_what_another_host_uses() {
    let space = space();
    space.recipe("r.yaml", "a: {uses: fake_source, with: {value: 1}}");
    space.run(&["run", "r.yaml"]).expect(0);
    let alive = Node7::lives(&space, 4711);
    let refused = space.run(&["gc", "--unused", "--no-runs", "--delete", "--grace", "0s"]).expect(3).stderr;
    assert!(refused.contains("in use by another run (process 4711 on node7)"), "{refused}");
    assert!(refused.contains("waits up to 90 s for a sign of life of process 4711 on node7"), "{refused}");
    assert_eq!(space.run(&["run", "r.yaml", "--json"]).expect(0).verdicts()["a"], "hit", "something was removed");
    drop(alive);
    space.run(&["gc", "--unused", "--no-runs", "--delete", "--grace", "0s"]).expect(0);
}

/// A store on a file system without locks.
#[test]
fn heartbeats_alone_keep_runs_apart_and_a_killed_one_goes_on() {
    let space = space();
    space.recipe("r.yaml", "t: {uses: fake_train, with: {iterations: 300, step_seconds: 0.04, checkpoint_every: 20}}");
    let start = || {
        let mut command = space.command(&["run", "r.yaml", "--json"]);
        command.env("OPDFLOW_LOCKS", "heartbeat").stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let first = start();
    space.wait_for("checkpointed", |_| true);
    let children = space.children();
    let second = start();
    space.wait_for("waits", |e| children.iter().any(|c| e["pid"] == json!(c)) && e.get("host").is_none());
    let mut gc = space.command(&["gc", "--unused", "--no-runs", "--delete"]);
    assert!(!gc.env("OPDFLOW_LOCKS", "heartbeat").output().unwrap().status.success());
    signal(pid(&first), libc::SIGKILL);
    signal(children[0], libc::SIGKILL);
    finish(first);
    // The dead are known at once on their own host.
    let done = finish(second).expect(0);
    assert!(space.events_of("begun").iter().any(|e| e["step"].as_u64() > Some(0)), "{:#?}", space.events());
    let plain = TestSpace::new();
    plain.recipe("r.yaml", "t: {uses: fake_train, with: {iterations: 300, checkpoint_every: 20}}");
    assert_eq!(done.outputs(), plain.run(&["run", "r.yaml", "--json"]).expect(0).outputs());
    let mut wrong = space.command(&["du"]);
    let wrong = wrong.env("OPDFLOW_LOCKS", "none").output().unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("OPDFLOW_LOCKS is `none`"), "{said}");
}
