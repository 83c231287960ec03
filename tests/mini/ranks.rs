//! Several processes at one stage: the same bytes with any number of them, whatever happens on the way.

use crate::common::{finish, pid, signal};
use crate::space::{Mini, lasting};
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

const RECIPE: (&str, &str) = ("ranks.yaml", include_str!("ranks.yaml"));

fn space() -> Mini {
    let mini = Mini::new();
    mini.write(RECIPE.0, RECIPE.1);
    mini
}

fn run_with<'a>(ranks: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", RECIPE.0, "--json", "-j2", "--set", ranks], more].concat()
}

/// The numbers of the processes that are one of several of a stage of this space, by their rank.
fn processes(mini: &Mini) -> Vec<(String, i32)> {
    let of = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let job = words.split(|b| *b == 0).nth(2)?.to_vec();
        let own = std::fs::read_link(entry.path().join("cwd")).ok()? == mini.path("").canonicalize().ok()?;
        let text = std::fs::read(entry.path().join("environ")).ok()?;
        let rank = text.split(|b| *b == 0).find_map(|v| v.strip_prefix(b"OPDFLOW_RANK="))?.to_vec();
        (own && !job.is_empty()).then(|| (String::from_utf8_lossy(&rank).into_owned(), pid))
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

/// Waits until the run has made `n` checkpoints of `stage`; false if it ended before.
fn wait(mini: &Mini, run: &mut Child, stage: &str, n: usize) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(120) {
        let ours = mini.events_of("run_started").iter().any(|e| e["pid"].as_i64() == Some(i64::from(pid(run))));
        if ours && mini.events_of("checkpointed").iter().filter(|e| e["stage"] == stage).count() >= n {
            return true;
        }
        if run.try_wait().is_ok_and(|ended| ended.is_some()) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("`{stage}` made no {n} checkpoints");
}

#[test]
fn a_stage_leaves_the_same_bytes_with_any_number_of_processes() {
    let alone = lasting(&space().run(&run_with("ranks=1", &[])).expect(0));
    assert!(alone.len() > 30, "{alone:?}");
    for ranks in ["ranks=2", "ranks=4"] {
        let mini = space();
        let ran = mini.run(&run_with(ranks, &[])).expect(0);
        assert_eq!(lasting(&ran), alone, "{ranks}");
        // Nothing is left of what the others wrote, and nobody of them.
        assert!(crate::common::files(&mini.store().join("work")).is_empty());
        assert!(processes(&mini).is_empty());
        // The number is outside the key.
        assert!(mini.run(&run_with("ranks=1", &[])).expect(0).verdicts().values().all(|v| v == "hit"));
    }
}

#[test]
fn what_was_stopped_with_two_goes_on_with_one_and_with_four() {
    let of = |stage: &'static str| ["--set", "rounds=6", "--until", stage];
    for stage in ["nft", "guard"] {
        let alone = lasting(&space().run(&run_with("ranks=1", &of(stage))).expect(0));
        for ranks in ["ranks=1", "ranks=4"] {
            let mini = space();
            let mut run = mini.start(&run_with("ranks=2", &of(stage)));
            assert!(wait(&mini, &mut run, stage, 2), "{stage} was through before it could be stopped");
            signal(pid(&run), libc::SIGINT);
            finish(run).expect(75);
            assert!(processes(&mini).is_empty());
            let ran = mini.run(&run_with(ranks, &of(stage))).expect(0);
            assert_eq!(ran.verdicts()[stage], "resumed");
            assert_eq!(lasting(&ran), alone, "{stage}, then {ranks}");
        }
    }
}

#[test]
fn one_that_dies_or_hangs_ends_all_and_the_stage_goes_on_from_its_checkpoint() {
    let rounds = ["--set", "rounds=8", "--set", "deadline=3", "--until", "nft"];
    let alone = lasting(&space().run(&run_with("ranks=1", &rounds)).expect(0));
    for (rank, how, words) in [
        ("1", libc::SIGKILL, "process 1 of 3: it was ended by signal 9"),
        ("0", libc::SIGKILL, "process 0 of 3: it was ended by signal 9"),
        ("2", libc::SIGSTOP, "the processes of the stage have lost each other"),
    ] {
        let mini = space();
        let mut run = mini.start(&run_with("ranks=3", &rounds));
        assert!(wait(&mini, &mut run, "nft", 2));
        let found = processes(&mini);
        let (_, victim) = found.iter().find(|(r, _)| r == rank).unwrap_or_else(|| panic!("{found:?}"));
        signal(*victim, how);
        let began = Instant::now();
        while found.iter().any(|(_, pid)| std::path::Path::new(&format!("/proc/{pid}/cwd")).exists()) {
            assert!(began.elapsed() < Duration::from_secs(20), "not all ended: {:?}", processes(&mini));
            std::thread::sleep(Duration::from_millis(20));
        }
        let ran = finish(run).expect(0);
        assert_eq!(ran.verdicts()["nft"], "resumed", "{}", ran.stderr);
        assert_eq!(lasting(&ran), alone, "{rank} {how}");
        let log = std::fs::read_to_string(mini.path(".opdflow/runs/latest/logs/nft.log")).unwrap();
        assert!(log.contains(words), "no `{words}` in\n{log}");
        assert!(processes(&mini).is_empty());
    }
}

#[test]
fn the_progress_of_all_processes_is_shown_and_who_hangs() {
    let mini = space();
    let mut run = mini.start(&run_with("ranks=2", &["--set", "rounds=8", "--set", "deadline=300", "--until", "nft"]));
    assert!(wait(&mini, &mut run, "nft", 2));
    let (_, victim) = processes(&mini).into_iter().find(|(rank, _)| rank == "1").expect("rank 1");
    signal(victim, libc::SIGSTOP);
    let began = Instant::now();
    let hangs = |event: &serde_json::Value| event["stage"] == "nft" && event["ranks"][1]["silent"].as_f64() > Some(0.0);
    while !mini.events_of("ranks").iter().any(hangs) {
        assert!(began.elapsed() < Duration::from_secs(120), "{:?}", mini.events_of("ranks"));
        std::thread::sleep(Duration::from_millis(200));
    }
    let text = mini.run(&["status"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&mini.run(&["status", "--json"]).expect(0).stdout).unwrap();
    signal(victim, libc::SIGCONT);
    let line = text.lines().find(|l| l.contains("nft")).unwrap_or_default();
    assert!(line.contains("2 processes wait") && line.contains("rank 1 without a sign of life"), "{text}");
    let ranks = json["stages"]["nft"]["ranks"].as_array().unwrap();
    assert!(ranks.len() == 2 && ranks[0]["waits"].as_f64() > Some(5.0) && ranks[0]["silent"] == 0.0, "{ranks:?}");
    // Nothing is lost: it goes on.
    assert_eq!(finish(run).expect(0).verdicts()["nft"], "run");
    // Of the one that was stopped no newer step need have been told.
    let last = mini.events_of("ranks").into_iter().rfind(|e| e["stage"] == "nft").unwrap();
    assert!(last["ranks"][0]["step"].as_u64() >= Some(2), "{last}");
}

/// A thousand images at once, which take hundreds of megabytes.
const LARGE: &str = "
opdflow: 1
name: large
seed: 3
vars: {ranks: 2, micro: 1024}
stages:
  base: {uses: base_model, with: {source: \"bundled:mini\"}}
  prompts: {uses: prompts, with: {task: scene, train: 64, validation: 1, test: 1}}
  teacher:
    uses: train_teacher
    needs: {base: base.model, prompts: prompts.train}
    with:
      algorithm: {diffusion_nft: {timesteps: 1}}
      reward: {looks: 1.0}
      iterations: 1
      micro_batch: \"${micro}\"
      sampling: {prompts: 32, group_size: 32, num_inference_steps: 2}
    resources: {ranks: \"${ranks}\"}
";

/// Memory that really runs out, in a process whose address space is limited: the programs and libtorch take most of it.
#[test]
#[ignore = "what the programs take before they begin differs with machines: run by hand, with --ignored"]
fn memory_that_runs_out_in_one_process_halves_the_micro_batch_of_all() {
    let mini = Mini::new();
    mini.write("large.yaml", LARGE);
    let run = ["run", "large.yaml", "--json", "-j2"];
    let mut command = mini.prepared(&run);
    // Address space that a machine of many cores would set aside for threads.
    command.env("RAYON_NUM_THREADS", "1").env("MALLOC_ARENA_MAX", "2");
    // SAFETY: one call of the system that takes no memory.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 800_000_000, rlim_max: libc::RLIM_INFINITY };
            if libc::setrlimit(libc::RLIMIT_AS, &raw const limit) == 0 {
                return Ok(());
            }
            Err(std::io::Error::last_os_error())
        });
    }
    let ran = finish(command.spawn().unwrap()).expect(0);
    let log = std::fs::read_to_string(mini.path(".opdflow/runs/latest/logs/teacher.log")).unwrap();
    let fits = |line: &str| {
        Some(
            line.split_once("memory ran out; going on")?
                .1
                .split_once("micro_batch: ")?
                .1
                .trim_end_matches('`')
                .to_owned(),
        )
    };
    let fits = log.lines().filter_map(fits).next_back().unwrap_or_else(|| panic!("memory sufficed:\n{log}"));
    assert!(!log.contains("frame #"), "pages of libtorch's frames:\n{log}");
    // The bytes are those of one process that was given what fitted.
    let fitted = format!("micro={fits}");
    let plain = Mini::new();
    plain.write("large.yaml", LARGE);
    let alone = plain.run(&[&run[..], &["--set", "ranks=1", "--set", &fitted]].concat()).expect(0);
    assert_eq!(lasting(&ran), lasting(&alone), "{fitted}:\n{log}");
}

#[test]
fn a_kind_that_runs_in_one_process_says_so() {
    let mini = space();
    mini.edit(RECIPE.0, "test: 11}}\n  ocr_prompts", "test: 11}, resources: {ranks: 2}}\n  ocr_prompts");
    let ran = mini.run(&["check", RECIPE.0]).expect(2);
    assert!(ran.stderr.contains("E047") && ran.stderr.contains("`prompts` runs in one"), "{}", ran.stderr);
    mini.write(RECIPE.0, RECIPE.1);
    mini.edit(RECIPE.0, "resources: {ranks: \"${ranks}\"}\n  nft", "resources: {gpus: 2, gpu_memory: 16G}\n  nft");
    let ran = mini.run(&["check", RECIPE.0]).expect(2);
    assert!(ran.stderr.contains("several GPUs are not shared"), "{}", ran.stderr);
}

/// What `torchrun --no-python` and `srun` do: the same job for each process, which takes its rank from variables of theirs.
#[test]
fn processes_that_a_launcher_starts_take_their_ranks_from_its_variables() {
    let mini = space();
    let until = ["--until", "nft"];
    let alone = lasting(&mini.run(&run_with("ranks=1", &until)).expect(0));
    let path = mini.path(".opdflow/runs/latest/jobs/nft.json");
    let mut job: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    // The result is there: it is made once more, and held against the first.
    job["force"] = true.into();
    std::fs::write(&path, job.to_string()).unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_opdflow")).with_file_name("opdflow-stage");
    let launchers: [&[(&str, &str)]; 2] = [
        &[
            ("RANK", "#"),
            ("WORLD_SIZE", "2"),
            ("LOCAL_RANK", "#"),
            ("LOCAL_WORLD_SIZE", "2"),
            ("TORCHELASTIC_RUN_ID", "a-b"),
        ],
        &[("SLURM_PROCID", "#"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_STEP_NUM_NODES", "2"), ("SLURM_JOB_ID", "7")],
    ];
    for variables in launchers {
        let start = |rank: &str| {
            let mut command = std::process::Command::new(&program);
            command.arg("__stage").arg(&path).current_dir(mini.path("")).env("OMP_NUM_THREADS", "1");
            command.envs(variables.iter().map(|(name, value)| (*name, value.replace('#', rank))));
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        };
        // The one that follows comes first, and waits.
        let second = start("1");
        std::thread::sleep(Duration::from_millis(200));
        let (first, second) = (finish(start("0")).expect(0), finish(second).expect(0));
        assert!(first.stdout.contains(r#""event":"published""#), "{}", first.stdout);
        assert!(second.stdout.is_empty(), "one that follows reports nothing: {}", second.stdout);
    }
    assert_eq!(lasting(&mini.run(&run_with("ranks=1", &until)).expect(0)), alone);
    let attempts = mini.run(&["verify", "--json"]).expect(0);
    assert!(!attempts.stdout.contains("attempt-2"), "the same bytes are no second attempt: {}", attempts.stdout);
    assert!(
        crate::common::files(&mini.store().join("actions")).iter().all(|f| !f.to_string_lossy().contains("attempt"))
    );
}
