//! Checkpoints: whole or not there.

mod common;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::Path;

use common::{damage, store, write};
use opdflow_cache::{Checkpoint, Checkpoints, Digest, SaveError};

fn save(checkpoints: &Checkpoints, step: u64, text: &str) -> Checkpoint {
    let fill = |dir: &Path| -> Result<(), Infallible> {
        write(&dir.join("weights"), text.as_bytes());
        write(&dir.join("optimiser/m"), b"m");
        Ok(())
    };
    checkpoints.save(step, step as f64 / 2.0, 2, fill).unwrap()
}

fn steps(checkpoints: &Checkpoints) -> Vec<u64> {
    checkpoints.list().iter().map(|c| c.step).collect()
}

#[test]
fn the_last_two_are_kept() {
    let (_dir, store) = store();
    let checkpoints = store.checkpoints(&Digest::of(b"lineage"));
    assert_eq!(checkpoints.head().unwrap(), None);
    for step in [10, 20, 30] {
        let saved = save(&checkpoints, step, &step.to_string());
        assert_eq!(checkpoints.head().unwrap(), Some(saved));
    }
    assert_eq!(steps(&checkpoints), [20, 30]);
    let head = checkpoints.head().unwrap().unwrap();
    assert_eq!(fs::read(head.path.join("weights")).unwrap(), b"30");
    let names: Vec<_> = head.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!((names, head.elapsed_seconds), (vec!["optimiser/m", "weights"], 15.0));
    assert_eq!(checkpoints.at_most(29).unwrap().unwrap().step, 20);
    assert_eq!(checkpoints.at_most(19).unwrap(), None);
    assert_eq!(store.checkpoints(&Digest::of(b"another")).head().unwrap(), None);
}

#[test]
fn a_shorter_run_of_the_lineage_loses_nothing() {
    let (_dir, store) = store();
    let checkpoints = store.checkpoints(&Digest::of(b"lineage"));
    save(&checkpoints, 300, "long");
    save(&checkpoints, 400, "long");
    save(&checkpoints, 10, "short");
    assert_eq!(steps(&checkpoints), [10, 300, 400]);
    assert_eq!(checkpoints.at_most(100).unwrap().unwrap().step, 10);
}

#[test]
fn the_head_falls_back_when_the_newest_is_damaged() {
    let (_dir, store) = store();
    let checkpoints = store.checkpoints(&Digest::of(b"lineage"));
    type Harm = fn(&Path);
    let harms: [Harm; 5] = [
        |dir| damage(&dir.join("files/weights"), b"xx"),
        |dir| damage(&dir.join("files/weights"), b""),
        |dir| fs::remove_file(dir.join("files/optimiser/m")).unwrap(),
        |dir| fs::remove_file(dir.join("manifest.json")).unwrap(),
        |dir| damage(&dir.join("manifest.json"), b"{}"),
    ];
    for harm in harms {
        save(&checkpoints, 10, "10");
        let newest = save(&checkpoints, 20, "20");
        harm(newest.path.parent().unwrap());
        assert_eq!(checkpoints.head().unwrap().unwrap().step, 10);
        let warnings = store.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].aside.as_ref().unwrap().exists());
    }
}

#[test]
fn the_same_step_again_is_swapped_in() {
    let (_dir, store) = store();
    let checkpoints = store.checkpoints(&Digest::of(b"lineage"));
    save(&checkpoints, 10, "old");
    let new = save(&checkpoints, 10, "new");
    assert_eq!(checkpoints.head().unwrap(), Some(new.clone()));
    assert_eq!(fs::read(new.path.join("weights")).unwrap(), b"new");
    assert_eq!(steps(&checkpoints), [10]);
}

#[test]
fn what_breaks_off_leaves_no_trace() {
    let (_dir, store) = store();
    let checkpoints = store.checkpoints(&Digest::of(b"lineage"));
    let head = save(&checkpoints, 10, "10");
    let failed = checkpoints.save(20, 1.0, 2, |dir| {
        write(&dir.join("half"), b"");
        Err(io::Error::other("out of memory"))
    });
    assert!(matches!(failed, Err(SaveError::Write(e)) if e.to_string() == "out of memory"));
    let never = |_: &Path| -> Result<(), Infallible> { Ok(()) };
    assert!(matches!(checkpoints.save(20, f64::NAN, 2, never), Err(SaveError::Store(_))));
    // What a kill would leave.
    let dir = head.path.parent().unwrap().parent().unwrap();
    write(&dir.join("part-torn/files/weights"), b"to");
    assert_eq!(checkpoints.head().unwrap(), Some(head.clone()));
    save(&checkpoints, 20, "20");
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names, ["lock", "step-0000000010", "step-0000000020"]);
    assert_eq!(store.verify(true).unwrap().checkpoints, 2);
    assert!(store.warnings().is_empty());
}
