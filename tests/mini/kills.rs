//! Killed at random moments during the teachers and the distillation, the same command ends in the same bytes.

use crate::common::{self, finish, pid, signal};
use crate::space::{Mini, TEACHERS, lasting};
use std::collections::BTreeMap;
use std::process::Child;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const RUN: [&str; 9] =
    ["run", "multitask.yaml", "--json", "-j2", "--set", "iterations=6", "--set", "rounds=10", "--until=student"];

fn rounds() -> u64 {
    std::env::var("OPDFLOW_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Numbers that look random and are the same for the same round.
fn random(seed: u64, below: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) % below
}

/// The outputs of a run that nobody disturbed.
fn calm() -> &'static BTreeMap<String, String> {
    static CALM: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    CALM.get_or_init(|| lasting(&Mini::new().run(&RUN).expect(0)))
}

/// Waits until the run in progress has made `n` checkpoints of one of these stages, or is through.
fn wait(mini: &Mini, run: &mut Child, stages: &[&str], n: usize) {
    let began = Instant::now();
    while run.try_wait().is_ok_and(|ended| ended.is_none()) && began.elapsed() < Duration::from_secs(120) {
        // The newest run's record may still be that of the run before.
        let ours = mini.events_of("run_started").iter().any(|e| e["pid"].as_i64() == Some(i64::from(pid(run))));
        let made = mini.events_of("checkpointed").iter().filter(|e| stages.iter().any(|s| e["stage"] == *s)).count();
        if ours && made >= n {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Each round is killed in a new space: at any moment, among the teachers, and in the distillation.
fn survives(name: &str, kill: impl Fn(&Mini, i32, u64)) {
    for round in 0..rounds() {
        let mini = Mini::new();
        let seed = round * 1000 + name.len() as u64 * 77;
        let moments: [(&[&str], u64, u64); 3] =
            [(&[], 0, 3000), (&TEACHERS, 1 + random(seed, 10), 150), (&["student"], 1 + random(seed, 4), 100)];
        for (again, (stages, checkpoints, more)) in (seed..).zip(moments) {
            let mut run = mini.start(&RUN);
            wait(&mini, &mut run, stages, usize::try_from(checkpoints).unwrap_or(0));
            std::thread::sleep(Duration::from_millis(random(again, more)));
            kill(&mini, pid(&run), again);
            finish(run);
        }
        let ran = mini.run(&RUN).expect(0);
        println!("{name}, round {round}: {:?}", ran.verdicts());
        assert_eq!(&lasting(&ran), calm(), "{name}, round {round}\n{}", ran.stderr);
        let settled = mini.run(&RUN).expect(0);
        assert!(settled.verdicts().values().all(|v| v == "hit"), "{name}, round {round}: {:?}", settled.verdicts());
    }
}

#[test]
fn the_stage_dies() {
    survives("stage", |mini, _, seed| {
        let children = mini.children();
        if !children.is_empty() {
            let at = usize::try_from(random(seed + 77, children.len() as u64)).unwrap_or(0);
            signal(children[at], libc::SIGKILL);
        }
    });
}

#[test]
fn the_scheduler_dies() {
    survives("scheduler", |_, run, _| signal(run, libc::SIGKILL));
}

#[test]
fn both_die() {
    survives("both", |mini, run, _| {
        signal(run, libc::SIGKILL);
        mini.children().into_iter().for_each(|c| signal(c, libc::SIGKILL));
    });
}

#[test]
fn asked_to_stop_it_goes_on_from_there() {
    let mini = Mini::new();
    let mut run = mini.start(&RUN);
    wait(&mini, &mut run, &TEACHERS, 3);
    signal(pid(&run), libc::SIGINT);
    let ran = finish(run).expect(75);
    assert!(ran.verdicts().values().any(|v| v == "stopped"), "{:?}", ran.verdicts());
    let ran = mini.run(&RUN).expect(0);
    assert!(TEACHERS.iter().any(|t| ran.verdicts()[*t] == "resumed"), "{:?}", ran.verdicts());
    assert_eq!(&lasting(&ran), calm());
    assert!(common::files(&mini.store().join("work")).is_empty(), "nothing half done is left");
}
