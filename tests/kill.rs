//! A run that is killed at any moment, in any part, ends in the same bytes when its command is given again.
//!
//! `OPDFLOW_KILLS` says how many processes die in each of the three ways (6 if it is not set): only those count that were
//! alive. `OPDFLOW_KILLS=350 cargo test --test kill -- --nocapture` makes more than a thousand.
#![allow(missing_docs)]

mod common;

use common::{Ran, TestSpace, finish, pid, signal};
use std::time::Duration;

const STAGES: &str = "
    a: {uses: fake_source, with: {value: 3}}
    x: {uses: fake_train, needs: {base: a.value}, with: {iterations: 30, step_seconds: 0.01}}
    y: {uses: fake_train, with: {iterations: 25, step_seconds: 0.01, checkpoint_every: 4}, seed: 2}
    z: {uses: fake_train, with: {iterations: 12, step_seconds: 0.01, checkpoint_every: 3}, seed: 3}
    end: {uses: fake_report, needs: {parts: {x: x.model, y: y.model, z: z.model, all: x.candidates}}, with: {title: t}}
";

fn wanted() -> usize {
    std::env::var("OPDFLOW_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

/// Numbers that look random and are the same for the same round.
fn random(seed: u64, below: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) % below
}

fn space() -> TestSpace {
    let space = TestSpace::new();
    space.recipe("r.yaml", STAGES);
    space
}

const RUN: [&str; 5] = ["run", "r.yaml", "--json", "-j", "2"];

fn undisturbed() -> Ran {
    space().run(&RUN).expect(0)
}

/// Starts a run, waits a while, lets `kill` do its work, and repeats. Then the same command must end well. All that
/// again until enough processes have died; `kill` says how many it hit.
fn survives(name: &str, again: u64, kill: impl Fn(&TestSpace, i32, u64) -> usize) {
    let calm = undisturbed();
    let (mut deaths, mut rounds) = (0, 0);
    while deaths < wanted() {
        let space = space();
        for turn in 0..again {
            let seed = rounds * 1000 + turn;
            let mut run = space.start(&RUN);
            std::thread::sleep(Duration::from_millis(random(seed, 700)));
            if run.try_wait().expect("a child").is_none() {
                deaths += kill(&space, pid(&run), seed);
            }
            // It may also go on and come to a good end.
            finish(run);
        }
        let ran = space.run(&RUN).expect(0);
        assert_eq!(ran.outputs(), calm.outputs(), "{name}, round {rounds}\n{}", ran.stderr);
        let settled = space.run(&RUN).expect(0);
        assert!(settled.verdicts().values().all(|v| v == "hit"), "{name}, round {rounds}: {:?}", settled.verdicts());
        space.run(&["verify", "--deep"]).expect(0);
        rounds += 1;
        assert!(rounds < 1000 + 10 * wanted() as u64, "{name}: only {deaths} deaths in {rounds} rounds");
    }
    println!("{name}: {deaths} processes died in {rounds} rounds; each came to the same bytes");
}

#[test]
fn the_child_dies() {
    survives("child", 3, |space, _, seed| {
        let children = space.children();
        if children.is_empty() {
            return 0;
        }
        let at = usize::try_from(random(seed + 77, children.len() as u64)).unwrap_or(0);
        signal(children[at], libc::SIGKILL);
        1
    });
}

#[test]
fn the_scheduler_dies() {
    survives("scheduler", 3, |_, run, _| {
        signal(run, libc::SIGKILL);
        1
    });
}

#[test]
fn both_die() {
    survives("both", 4, |space, run, _| {
        signal(run, libc::SIGKILL);
        let children = space.children();
        children.iter().for_each(|c| signal(*c, libc::SIGKILL));
        1 + children.len()
    });
}

#[test]
fn an_orphan_finishes_and_the_next_run_takes_its_result() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "t: {uses: fake_train, with: {iterations: 60, step_seconds: 0.02}}");
    let run = space.start(&["run", "r.yaml"]);
    space.wait_for("checkpointed", |e| e["step"].as_u64() > Some(2));
    signal(pid(&run), libc::SIGKILL);
    finish(run);
    let ran = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!(ran.verdicts()["t"], "hit", "{}", ran.stderr);
    assert!(ran.stderr.contains("another run"), "{}", ran.stderr);
}
