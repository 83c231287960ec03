//! A run that finds everything in the store: what it does and needs, and what it must not do. Nothing here measures
//! time.
#![allow(missing_docs)]

mod common;

use common::{TestSpace, files};

/// A chain of `n` stages that ends in a report.
fn chain(n: usize) -> TestSpace {
    let space = TestSpace::new();
    let mut stages = "s0: {uses: fake_source, with: {value: 1000}}\n".to_owned();
    for i in 1..n - 1 {
        stages += &format!("s{i}: {{uses: fake_sum, needs: {{terms: {{x: s{}.value}}}}, with: {{plus: 1}}}}\n", i - 1);
    }
    stages += &format!("end: {{uses: fake_report, needs: {{parts: {{x: s{}.value}}}}}}\n", n - 2);
    space.recipe("r.yaml", &stages);
    space.run(&["run", "r.yaml"]).expect(0);
    space
}

#[test]
fn a_run_of_hits_starts_no_process() {
    let space = chain(20);
    let ran = space.run(&["run", "r.yaml", "--json"]).expect(0);
    assert!(ran.verdicts().values().all(|v| v == "hit"), "{:?}", ran.verdicts());
    assert!(space.events_of("started").is_empty() && space.events_of("begun").is_empty());
    assert!(files(&space.path(".opdflow/runs/latest/jobs")).is_empty());
    assert!(files(&space.path(".opdflow/runs/latest/logs")).is_empty());
}

/// Every byte of what is between the stages is replaced by another. Whoever read one of those blobs would say so: what
/// is read is verified. Only what the user gets to see is read.
#[test]
fn a_run_of_hits_reads_no_blob_between_stages() {
    let space = chain(20);
    let seen = space.run(&["run", "r.yaml"]).expect(0).stdout;
    let mut spoiled = 0;
    for blob in files(&space.store().join("blobs")) {
        let bytes = std::fs::read(&blob).unwrap();
        if bytes != seen.as_bytes() {
            space.damage(&blob, &vec![b'?'; bytes.len()]);
            spoiled += 1;
        }
    }
    assert!(spoiled >= 19, "{spoiled}");
    let ran = space.run(&["run", "r.yaml"]).expect(0);
    assert_eq!(ran.stdout, seen);
    assert!(ran.stderr.contains("20 stages: 20 hit"), "{}", ran.stderr);
    assert!(files(&space.store().join("damaged")).is_empty());
}

#[test]
fn a_run_of_hits_writes_nothing_into_the_store() {
    let space = chain(20);
    let look = |space: &TestSpace| {
        let mut all: Vec<_> =
            files(&space.store()).into_iter().map(|f| (f.metadata().and_then(|m| m.modified()).unwrap(), f)).collect();
        all.sort();
        all
    };
    let before = look(&space);
    space.run(&["run", "r.yaml"]).expect(0);
    assert_eq!(look(&space), before);
}

/// `cargo test --test no_op memory -- --nocapture` shows the figure.
#[test]
fn memory_of_a_run_of_hits() {
    let space = chain(20);
    space.run(&["run", "r.yaml"]).expect(0);
    // SAFETY: `usage` is a plain structure for the system to fill in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    // The largest of all processes that this test waited for: the first run, which computes, and its stages too.
    println!("20 stages, all hits: {:.1} MB at the most", usage.ru_maxrss as f64 / 1024.0);
    assert!(usage.ru_maxrss < 60 * 1024, "{} kB", usage.ru_maxrss);
}
