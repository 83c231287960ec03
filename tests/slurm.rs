//! `opdflow run --on slurm` on a real cluster of two nodes, which each test starts for itself on this machine. Where Slurm is not
//! installed the tests say so and pass.
#![cfg(not(feature = "torch"))] // It is the same engine in both builds, and once is enough.
#![allow(missing_docs)]

#[path = "slurm/cluster.rs"]
mod cluster;
mod common;

use cluster::{Cluster, is_installed};
use common::{TestSpace, finish, pid, signal, wait_until};
use opdflow::exec::slurm::ask::{Answer, Submitted, submitted};
use opdflow::exec::slurm::lines::{Asked, Line, Reading};
use opdflow::exec::slurm::profile::{Node, Profile};
use opdflow::exec::slurm::script::{Request, job_name};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const PROFILE: &str = "{poll_seconds: 1, late_seconds: 3}";
const RUN: [&str; 5] = ["run", "r.yaml", "--on", "slurm", "--json"];

/// A name that means something to every shell there is.
const STAGES: &str = "
    a: {uses: fake_source, with: {value: 3}}
    x: {uses: fake_train, needs: {base: a.value}, matrix: {s: [10, 20]}, with: {iterations: \"${matrix.s}\"}}
    end: {uses: fake_report, needs: {parts: {x: \"x[s=10].model\", y: \"x[s=20].model\"}}, with: {title: t}}
";

fn space(stages: &str) -> TestSpace {
    let space = TestSpace::new();
    space.recipe("r.yaml", stages);
    space.write("slurm.yaml", PROFILE);
    space
}

fn texts(space: &TestSpace) -> Vec<String> {
    space.events_of("job").iter().filter_map(|e| e["text"].as_str().map(ToOwned::to_owned)).collect()
}

/// Long enough for what is done to it meanwhile, on a machine that is busy too.
const LONG: &str = "t: {uses: fake_train, with: {iterations: 100, step_seconds: 0.3}}";

/// The same stages with the same outputs, and nothing to wait for.
fn quick(stages: &str) -> String {
    stages.replace("step_seconds: 0.3", "step_seconds: 0.01")
}

fn is_ready() -> bool {
    is_installed() && {
        LazyLock::force(&LIMIT);
        true
    }
}

/// What a run makes that nobody disturbs.
fn undisturbed(stages: &str) -> std::collections::BTreeMap<String, String> {
    space(&quick(stages)).run(&["run", "r.yaml", "--json"]).expect(0).outputs()
}

#[test]
fn a_run_on_the_cluster_makes_what_a_run_here_makes() {
    if !is_ready() {
        return;
    }
    let (cluster, space) = (Cluster::start(""), space(STAGES));
    space.write("slurm.yaml", "{}");
    let ran = finish(cluster.begin(&space, &RUN)).expect(0);
    assert_eq!(ran.outputs(), undisturbed(STAGES), "{}", ran.stderr);
    let jobs = cluster.jobs();
    assert_eq!(jobs.len(), 4, "a job a stage: {jobs:?}");
    let keys = ran.json();
    for (stage, name) in [("a", "a"), ("x[s=10]", "x-s-10-")] {
        let key = &keys["stages"][stage]["key"].as_str().expect("a key")[..16];
        assert!(jobs.iter().any(|job| job.2 == format!("opdflow-{key}-{name}")), "{jobs:?}");
    }
    let texts = texts(&space);
    assert!(texts.iter().any(|t| t == "submitted") && texts.iter().any(|t| t.starts_with("runs on")), "{texts:?}");
    let last =
        |stage: &str| space.events_of("job").iter().rfind(|e| e["stage"] == stage).map(|e| e["text"].to_string());
    for stage in ["a", "x[s=10]", "x[s=20]", "end"] {
        // What the queue said earlier comes no later.
        assert!(last(stage).is_some_and(|t| t.contains("runs on n")), "{texts:?}");
    }
    assert!(space.run(&["logs", "x[s=20]"]).expect(0).stdout.contains("started at step"));
    // Nothing is submitted for what the store has.
    finish(cluster.begin(&space, &RUN)).expect(0);
    assert_eq!(cluster.jobs().len(), 4);
}

/// The scheduler dies, and another one goes on with its jobs: those that run and those that wait.
#[test]
fn a_scheduler_that_is_killed_finds_its_jobs_again() {
    if !is_ready() {
        return;
    }
    let stages = format!(
        "{LONG}\n wide: {{uses: fake_source, with: {{value: 1}}, resources: {{cpus: 4}}}}\n a: {{uses: fake_source, with: {{value: 2, seconds: 4}}, resources: {{cpus: 4}}}}"
    );
    let (cluster, space) = (Cluster::start(""), space(&stages));
    // One node is taken by somebody else: of the wide ones one waits for the other.
    let first = cluster.begin(&space, &RUN);
    space.wait_for("checkpointed", |e| e["step"].as_u64() > Some(3));
    wait_until("all are in the queue", || cluster.jobs().len() == 3);
    signal(pid(&first), libc::SIGKILL);
    finish(first);
    let status = cluster.opdflow(&space, &["status"]).output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("still at work") && status.contains("(job "), "{status}");
    let ran = finish(cluster.begin(&space, &RUN)).expect(0);
    assert_eq!(cluster.jobs().len(), 3, "nothing was submitted twice: {:?}", cluster.jobs());
    assert_eq!(ran.outputs(), undisturbed(&stages));
    assert!(texts(&space).iter().any(|t| t.contains("an earlier run submitted it")), "{:?}", texts(&space));
    assert!(!space.events_of("progress").is_empty());
    assert!(space.run(&["logs", "t"]).expect(0).stdout.contains("started at step 0"));
}

#[test]
fn a_job_that_is_cancelled_stops_its_stage_and_loses_nothing() {
    if !is_ready() {
        return;
    }
    let (cluster, space) = (Cluster::start(""), space(LONG));
    let run = cluster.begin(&space, &RUN);
    space.wait_for("checkpointed", |e| e["step"].as_u64() > Some(3));
    cluster.ask("scancel", &[&cluster.jobs()[0].0]);
    let ran = finish(run).expect(75);
    assert_eq!(ran.verdicts()["t"], "stopped");
    assert!(texts(&space).iter().any(|t| t.starts_with("was cancelled")), "{:?}", texts(&space));
    assert!(space.events_of("stopped")[0]["step"].as_u64() > Some(3));
    space.recipe("r.yaml", &quick(LONG));
    let ran = finish(cluster.begin(&space, &RUN)).expect(0);
    assert_eq!((ran.verdicts()["t"].as_str(), ran.outputs()), ("resumed", undisturbed(LONG)));
}

#[test]
fn stop_asks_for_a_checkpoint_and_stop_now_cancels() {
    if !is_ready() {
        return;
    }
    // The second waits in the queue: nothing of it has begun.
    let stages = "t: {uses: fake_train, with: {iterations: 4000, step_seconds: 0.01}, resources: {cpus: 4}}
        u: {uses: fake_train, with: {iterations: 4000, step_seconds: 0.01}, resources: {cpus: 4}, seed: 2}
        v: {uses: fake_train, with: {iterations: 4000, step_seconds: 0.01}, resources: {cpus: 4}, seed: 3}";
    let (cluster, space) = (Cluster::start(""), space(stages));
    let run = cluster.begin(&space, &RUN);
    wait_until("two at work", || space.events_of("begun").len() == 2);
    space.wait_for("checkpointed", |_| true);
    wait_until("one waits", || cluster.jobs().iter().any(|job| job.1 == "PENDING"));
    space.run(&["stop", "--wait"]).expect(0);
    finish(run).expect(75);
    wait_until("no job is left", || cluster.jobs().iter().all(|job| job.1 != "RUNNING" && job.1 != "PENDING"));
    assert_eq!(space.events_of("stopped").iter().filter(|e| e["step"].as_u64() > Some(0)).count(), 2);

    std::fs::rename(space.path(".opdflow"), space.path("before")).unwrap();
    let run = cluster.begin(&space, &RUN);
    wait_until("two at work", || space.events_of("begun").len() == 2);
    space.run(&["stop", "--now", "--wait"]).expect(0);
    finish(run).expect(130);
    wait_until("no job is left", || cluster.jobs().iter().all(|job| job.1 != "RUNNING" && job.1 != "PENDING"));
}

#[test]
fn a_controller_that_is_away_is_waited_for() {
    if !is_ready() {
        return;
    }
    let stages = format!(
        "{LONG}\n later: {{uses: fake_sum, needs: {{terms: {{a: a.value}}}}}}\n a: {{uses: fake_source, with: {{value: 2, seconds: 3}}}}"
    );
    let (mut cluster, space) = (Cluster::start(""), space(&stages));
    let run = cluster.begin(&space, &RUN);
    space.wait_for("checkpointed", |_| true);
    space.wait_for("job", |e| e["stage"] == "a" && e["host"].is_string());
    cluster.stop_controller();
    space.wait_for("job", |e| e["stage"] == "t" && e["text"].as_str().is_some_and(|t| t.contains("gives no answer")));
    // One stage ends meanwhile, and the next has nobody to be submitted to.
    space.wait_for("job", |e| {
        e["stage"] == "later" && e["text"].as_str().is_some_and(|t| t.contains("gives no answer"))
    });
    cluster.start_controller();
    let ran = finish(run).expect(0);
    assert_eq!(ran.outputs(), undisturbed(&stages), "{}", ran.stderr);
}

#[test]
fn a_node_that_fails_costs_no_more_than_what_was_done_since_the_checkpoint() {
    if !is_ready() {
        return;
    }
    let (cluster, space) = (Cluster::start(""), space(LONG));
    // Slurm's own way would be to begin it again two minutes later.
    space.write("slurm.yaml", "{poll_seconds: 1, late_seconds: 1, lines: [--no-requeue, '-w n1']}");
    let run = cluster.begin(&space, &RUN);
    space.wait_for("checkpointed", |e| e["step"].as_u64() > Some(3));
    cluster.ask("scontrol", &["update", "nodename=n1", "state=down", "reason=test"]);
    space.write("slurm.yaml", PROFILE);
    space.wait_for("job", |e| {
        e["text"].as_str().is_some_and(|t| t.contains("its node failed; another job goes on from the checkpoint"))
    });
    cluster.ask("scontrol", &["update", "nodename=n1", "state=resume"]);
    let ran = finish(run).expect(0);
    assert_eq!((ran.verdicts()["t"].as_str(), ran.outputs()), ("resumed", undisturbed(LONG)));
}

/// As many processes as the recipe says, on as many nodes as the profile says that they need; the first one leads.
#[test]
fn a_recipe_s_ranks_are_processes_on_several_nodes() {
    if !is_ready() {
        return;
    }
    let of = |more: &str| format!("t: {{uses: fake_train, with: {{iterations: 40, step_seconds: 0.05}}{more}}}");
    let (cluster, space) = (Cluster::start(""), space(&of(", resources: {ranks: 2, cpus: 3}")));
    space.write("slurm.yaml", "{poll_seconds: 1, late_seconds: 3, node: {cpus: 4}}");
    let ran = finish(cluster.begin(&space, &RUN)).expect(0);
    assert_eq!(ran.outputs(), undisturbed(&of("")), "{}", ran.stderr);
    let nodes = cluster.ask("squeue", &["-h", "-a", "-t", "all", "-o", "%D %C"]);
    assert_eq!(nodes.trim(), "2 6", "two nodes, three processors each for both");
    assert_eq!(space.events_of("started")[0]["device"], "2 x cpu");
    assert_eq!(space.events_of("begun").len(), 1, "{:?}", space.events_of("begun"));
    let log = space.run(&["logs", "t"]).expect(0).stdout;
    assert!(!log.contains("error"), "{log}");
}

/// A stage of two processes, one on each node: `srun` starts them, what the first says arrives as events, and a wish to stop reaches
/// both before either is ended.
/// Submits a stage of several processes, each of them this script, with a number of threads; the job's number. Its files begin with
/// `two`.
fn submit_ranks(
    cluster: &Cluster,
    space: &TestSpace,
    profile: &Profile,
    (script, ranks, threads): (&str, usize, usize),
) -> u64 {
    space.write("rank", script);
    std::fs::set_permissions(space.path("rank"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let request = Request {
        name: job_name("0123456789abcdef", "two"),
        files: space.path("two"),
        log: space.path("two.log"),
        cwd: space.path(""),
        opdflow: env!("CARGO_BIN_EXE_opdflow").into(),
        command: vec![space.path("rank").into(), "__stage".into(), "two.json".into()],
        kind: "fake_train".into(),
        ranks,
        threads,
        gpu: profile.node.gpus > 0,
        environment: Vec::new(),
        umask: "0022".into(),
    };
    std::fs::write(request.script_path(), request.script(profile)).unwrap();
    let options: Vec<String> = request.options(profile).into_iter().map(|o| o.into_string().unwrap()).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let out = cluster.ask("sbatch", &options);
    let Submitted::As(id) = submitted(&Answer { ok: true, out, err: String::new() }) else { panic!("no job") };
    id
}

#[test]
fn a_stage_on_gpus_gets_those_that_it_needs_of_as_many_nodes_as_have_them() {
    if !is_ready() {
        return;
    }
    // One process: one GPU of a node, and the stage's program sees no other.
    let (cluster, one) = (Cluster::with_gpus(), space("t: {uses: fake_train, with: {iterations: 3}}"));
    one.write("slurm.yaml", "{poll_seconds: 1, late_seconds: 3, node: {gpus: 2}, setup: ['env >seen']}");
    finish(cluster.begin(&one, &RUN)).expect(0);
    let asked = cluster.ask("squeue", &["-h", "-a", "-t", "all", "-o", "%D %b"]);
    assert_eq!(asked.trim(), "1 gres:gpu:1");
    assert_eq!(one.events_of("started")[0]["device"], "cuda");
    let seen = std::fs::read_to_string(one.path("seen")).unwrap();
    assert!(seen.lines().any(|l| l == "CUDA_VISIBLE_DEVICES=0"), "{seen}");
    // Four: two nodes, and on each the local rank counts through its GPUs.
    let four = TestSpace::new();
    let rank = "#!/bin/bash
        echo \"$SLURMD_NODENAME $SLURM_LOCALID $CUDA_VISIBLE_DEVICES\" >rank.$SLURM_PROCID";
    let profile = Profile { node: Node { gpus: 2, cpus: None }, ..Profile::default() };
    let id = submit_ranks(&cluster, &four, &profile, (rank, 4, 1));
    let mut reading = Reading::of(four.path(&format!("two.{id}.events")));
    let mut lines = Vec::new();
    wait_until("the end of all", || {
        lines.extend(reading.news());
        lines.iter().any(|line| matches!(line, Line::Ends(ends) if ends.code == Some(0)))
    });
    let mut ranks = [0, 1, 2, 3].map(|n| std::fs::read_to_string(four.path(&format!("rank.{n}"))).unwrap());
    ranks.sort();
    assert_eq!(ranks.map(|text| text.trim().to_owned()), ["n1 0 0,1", "n1 1 0,1", "n2 0 0,1", "n2 1 0,1"]);
}

#[test]
fn a_stage_of_two_processes_is_spread_over_two_nodes() {
    if !is_ready() {
        return;
    }
    let (cluster, space) = (Cluster::start(""), TestSpace::new());
    let rank = "#!/bin/bash
        trap 'echo stop >stopped.$SLURM_PROCID; exit 75' USR1
        echo \"$SLURM_PROCID of $SLURM_NTASKS on $SLURMD_NODENAME\" >rank.$SLURM_PROCID
        [ $SLURM_PROCID = 0 ] && echo '{\"event\":\"started\",\"step\":7}'
        while :; do sleep 0.1; done";
    let profile = Profile { node: Node { gpus: 0, cpus: Some(4) }, ..Profile::default() };
    let id = submit_ranks(&cluster, &space, &profile, (rank, 2, 3));
    let mut reading = Reading::of(space.path(&format!("two.{id}.events")));
    let mut lines = Vec::new();
    let mut until = |what: &str, there: &dyn Fn(&[Line]) -> bool| {
        let began = std::time::Instant::now();
        while !there(&lines) {
            let log = || std::fs::read_to_string(space.path("two.log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(30), "{what}: {lines:?}\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
            lines.extend(reading.news());
        }
    };
    let read = |name: &str| std::fs::read_to_string(space.path(name)).unwrap_or_default();
    until("both at work", &|lines| {
        lines.contains(&Line::Event(opdflow_api::Event::Started { step: 7 }))
            && !read("rank.0").is_empty()
            && !read("rank.1").is_empty()
    });
    let mut ranks = [read("rank.0"), read("rank.1")].map(|text| text.trim().to_owned());
    ranks.sort();
    assert!(ranks[0].starts_with("0 of 2 on n") && ranks[1].starts_with("1 of 2 on n"), "{ranks:?}");
    assert_ne!(ranks[0].rsplit(' ').next(), ranks[1].rsplit(' ').next(), "each on a node of its own");
    cluster.ask("scancel", &["--batch", "--signal=TERM", &id.to_string()]);
    until("its end", &|lines| {
        lines
            .iter()
            .any(|l| matches!(l, Line::Ends(ends) if ends.code == Some(75) && ends.asked == Some(Asked::Signal)))
    });
    assert_eq!((read("stopped.0").trim(), read("stopped.1").trim()), ("stop", "stop"));
}

/// Slurm looks at time limits twice a minute: begun with the first test, its result is waited for in its own.
static LIMIT: LazyLock<Mutex<Option<JoinHandle<()>>>> = LazyLock::new(|| Mutex::new(Some(std::thread::spawn(limit))));

#[test]
fn a_time_limit_costs_nothing() {
    if !is_ready() {
        return;
    }
    let running = LIMIT.lock().unwrap().take().expect("it is waited for once");
    if let Err(panic) = running.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The first job has at least half a minute before Slurm asks it to end: less, and it may end without a checkpoint.
fn limit() {
    let (cluster, space) =
        (Cluster::start(""), space("t: {uses: fake_train, with: {iterations: 100000, step_seconds: 0.01}}"));
    space.write("slurm.yaml", "{time: 2, warn_seconds: 60, poll_seconds: 1, late_seconds: 3}");
    let run = cluster.begin(&space, &RUN);
    let limit = "its time was nearly up; another job goes on from the checkpoint";
    let began = std::time::Instant::now();
    while !texts(&space).iter().any(|text| text.starts_with(limit)) {
        // Slurm ends a job that has not heard it at the next look after its time.
        assert!(began.elapsed() < Duration::from_secs(240), "{:#?}\n{}", space.events(), cluster.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
    let second = space.wait_for("begun", |e| e["step"].as_u64() > Some(10));
    let before = space.events().into_iter().take_while(|e| e.get("begun") != Some(&second));
    let saved = before.filter_map(|e| e.get("checkpointed").cloned()).last();
    assert_eq!(saved.map(|e| e["step"].clone()), Some(second["step"].clone()), "it saves once more, and loses nothing");
    space.run(&["stop", "--wait"]).expect(0);
    finish(run).expect(75);
    assert_eq!(cluster.jobs().len(), 2);
}
