//! A training on two nodes of a real cluster, a process on each, by Gloo: the same bytes as one process here. Where Slurm is not
//! installed the test says so and passes.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

#[path = "slurm/cluster.rs"]
mod cluster;
mod common;

use cluster::{Cluster, is_installed};
use common::{TestSpace, finish};
use std::collections::BTreeMap;
use std::process::Command;

const RECIPE: &str = include_str!("mini/ranks.yaml");

fn space() -> TestSpace {
    let space = TestSpace::new();
    space.write("r.yaml", RECIPE);
    // A node has room for one process of two threads.
    space.write("slurm.yaml", "{poll_seconds: 1, late_seconds: 5, node: {cpus: 1}}");
    space
}

/// The digests of what does not say how long it took.
fn lasting(ran: &common::Ran) -> BTreeMap<String, String> {
    ran.outputs().into_iter().filter(|(name, _)| !name.ends_with(".timing")).collect()
}

#[test]
fn a_teacher_on_two_nodes_is_the_one_of_a_single_process() {
    if !is_installed() {
        return;
    }
    // No more than this is of the engine's tests of Slurm: the environment of a real stage goes with its job.
    let plain = |mut command: Command| {
        command.env_remove("OPDFLOW_FAKE_STAGES").env("OMP_NUM_THREADS", "1");
        command
    };
    let run = ["run", "r.yaml", "--json", "--until", "nft"];
    let alone = space();
    let ran = plain(alone.command(&run)).output().expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let alone: BTreeMap<String, String> = lasting(&common::Ran {
        code: 0,
        stdout: String::from_utf8_lossy(&ran.stdout).into_owned(),
        stderr: String::new(),
    });
    let (cluster, space) = (Cluster::start(""), space());
    let ran = finish(cluster.begin(&space, &[&run[..], &["--on", "slurm", "--set", "ranks=2"]].concat())).expect(0);
    assert_eq!(lasting(&ran), alone, "{}", ran.stderr);
    let jobs = cluster.ask("squeue", &["-h", "-a", "-t", "all", "-o", "%j %D"]);
    assert!(jobs.lines().any(|l| l.contains("-nft") && l.ends_with(" 2")), "two nodes for it: {jobs}");
    let began = space.events_of("started").into_iter().find(|e| e["stage"] == "nft").expect("it was started");
    assert_eq!(began["device"], "2 x cpu");
}
