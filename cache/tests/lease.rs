//! Leases and locks between processes.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::{blob, store};
use opdflow_cache::{Digest, Store};

const ROOT: &str = "OPDFLOW_LEASE_ROOT";
const TASK: &str = "OPDFLOW_LEASE_TASK";

/// Not a test of its own: what the others start in a child process.
#[test]
fn child() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    let store = Store::open(Path::new(&root)).unwrap();
    match std::env::var(TASK).unwrap().as_str() {
        "hold" => {
            let lease = store.lease(&Digest::of(b"key")).unwrap();
            lease.note("step 3 of 9").unwrap();
            println!("\nready");
            std::thread::sleep(Duration::from_secs(60));
        }
        "wait" => {
            println!("\nready");
            let _lease = store.lease(&Digest::of(b"key")).unwrap();
            println!("\ngot it");
        }
        "share" => {
            let _lock = store.shared().unwrap();
            println!("\nready");
            std::thread::sleep(Duration::from_secs(60));
        }
        _ => {
            for n in 0..40_u32 {
                store.put_bytes(&n.to_le_bytes().repeat(20_000)).unwrap();
            }
        }
    }
    std::process::exit(0);
}

fn start(store: &Store, task: &str) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(ROOT, store.root()).env(TASK, task);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn heard(out: &mut BufReader<ChildStdout>, word: &str) {
    assert!(out.lines().map_while(Result::ok).any(|line| line == word), "the child never said `{word}`");
}

#[test]
fn a_lease_dies_with_its_process() {
    let (_dir, store) = store();
    let key = Digest::of(b"key");
    assert_eq!(store.lease_holder(&key), None);
    let (mut holder, mut out) = start(&store, "hold");
    heard(&mut out, "ready");
    assert!(store.try_lease(&key).unwrap().is_none());
    let seen = store.lease_holder(&key).unwrap();
    assert_eq!((seen.pid, seen.note.as_str()), (holder.id(), "step 3 of 9"));
    assert!(store.try_lease(&Digest::of(b"another key")).unwrap().is_some());
    let (mut waiter, mut waiting) = start(&store, "wait");
    heard(&mut waiting, "ready");
    std::thread::sleep(Duration::from_millis(50));
    assert!(waiter.try_wait().unwrap().is_none(), "it does not wait");
    holder.kill().unwrap();
    holder.wait().unwrap();
    heard(&mut waiting, "got it");
    waiter.wait().unwrap();
    assert_eq!(store.lease_holder(&key), None, "what the dead one wrote is not believed");
    let lease = store.try_lease(&key).unwrap().unwrap();
    assert!(store.try_lease(&key).unwrap().is_none(), "not twice in one process either");
    assert_eq!(store.lease_holder(&key).unwrap().pid, std::process::id());
    drop(lease);
    assert_eq!(store.lease_holder(&key), None);
}

#[test]
fn a_lease_is_granted_when_the_holder_cannot_be_shown() {
    let (_dir, store) = store();
    fs::remove_dir_all(store.root().join("tmp")).unwrap();
    let lease = store.try_lease(&Digest::of(b"key")).unwrap();
    assert!(lease.is_some());
    assert_eq!(store.warnings().len(), 1);
}

#[test]
fn users_keep_sweepers_out_until_they_die() {
    let (_dir, store) = store();
    let (mut user, mut out) = start(&store, "share");
    heard(&mut out, "ready");
    assert!(store.try_exclusive().unwrap().is_none());
    let also = store.shared().unwrap();
    user.kill().unwrap();
    user.wait().unwrap();
    assert!(store.try_exclusive().unwrap().is_none());
    drop(also);
    let alone = store.exclusive().unwrap();
    assert!(store.try_exclusive().unwrap().is_none());
    drop(alone);
}

#[test]
fn processes_may_put_the_same_bytes_at_once() {
    let (_dir, store) = store();
    let mut children: Vec<_> = (0..3).map(|_| start(&store, "put")).collect();
    for (child, _out) in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let report = store.verify(true).unwrap();
    assert_eq!((report.blobs, report.damage.len()), (40, 0));
    assert!(blob(&store, &Digest::of(&7_u32.to_le_bytes().repeat(20_000))).exists());
    assert_eq!(store.usage().tmp.files, 0);
}
