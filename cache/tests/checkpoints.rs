//! Checkpoints: whole or not there.

mod common;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::Path;

use common::{damage, store, write};
use opdflow_cache::{Checkpoint, Checkpoints, Contents, Digest, SaveError, StoreError};

fn save(checkpoints: &Checkpoints, step: u64, text: &str) -> Checkpoint {
    let fill = |dir: &Path| -> Result<(), Infallible> {
        write(&dir.join("weights"), text.as_bytes());
        write(&dir.join("optimizer/m"), b"m");
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
    assert_eq!((names, head.elapsed_seconds), (vec!["optimizer/m", "weights"], 15.0));
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
        |dir| fs::remove_file(dir.join("files/optimizer/m")).unwrap(),
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
    for wrong in [f64::NAN, f64::INFINITY, -1.0, 1.0] {
        // The last for want of a file.
        assert!(matches!(checkpoints.save(20, wrong, 2, never), Err(SaveError::Store(StoreError::Invalid { .. }))));
    }
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

/// Looks and exports, while checkpoints are saved, swapped and dropped as fast as they can be.
#[test]
fn nobody_who_looks_is_disturbed_by_who_saves() {
    let (dir, store) = store();
    let lineage = Digest::of(b"lineage");
    save(&store.checkpoints(&lineage), 1, "1");
    let saving = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for step in 2..400_u64 {
                let text = format!("{step:01000}");
                save(&store.checkpoints(&lineage), step - step % 3, &text);
            }
            saving.store(false, std::sync::atomic::Ordering::SeqCst);
        });
        for looker in 0..2 {
            let (store, saving, dir) = (&store, &saving, &dir);
            threads.spawn(move || {
                let (mut looked, mut n) = (0, 0);
                while saving.load(std::sync::atomic::Ordering::SeqCst) || looked == 0 {
                    n += 1;
                    if looker == 0 {
                        looked += store.verify(true).unwrap().checkpoints;
                        assert!(store.checkpoints(&lineage).head().unwrap().is_some());
                    } else {
                        let files = Default::default();
                        let to = dir.path().join(format!("{n}.tar"));
                        let packed = store.pack(&to, &Contents { keys: &[], lineages: &[lineage], files: &files });
                        looked += packed.unwrap().checkpoints as u64;
                        opdflow_cache::Archive::open(&to).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(store.warnings(), []);
    assert_eq!(store.verify(true).unwrap().damage, []);
    assert_eq!(store.usage().tmp.files, 0);
    let parts: Vec<_> =
        common::files(dir.path()).into_iter().filter(|p| p.to_string_lossy().contains("part")).collect();
    assert!(parts.is_empty(), "{parts:?}");
}

#[test]
fn a_checkpoint_that_nothing_can_go_on_from_is_none() {
    let (_dir, store) = store();
    let checkpoints = store.checkpoints(&Digest::of(b"lineage"));
    save(&checkpoints, 10, "10");
    let newest = save(&checkpoints, 20, "20");
    // As an archive of an older program may have brought it: whole, and with a time before its beginning.
    let path = newest.path.parent().unwrap().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"elapsed_seconds\": 10.0", "\"elapsed_seconds\": -10.0");
    let body = text.split_once("\",").unwrap().1;
    damage(&path, format!("{{\n  \"check\": \"{}\",{body}", Digest::of(body.as_bytes())).as_bytes());
    assert_eq!(checkpoints.head().unwrap().unwrap().step, 10);
    assert!(store.warnings()[0].what.contains("-10 seconds"));
}
