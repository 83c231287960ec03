//! Death at every step, then a look at what is left.
//!
//! Each case runs this test binary again as a child that works through one life of a store and is killed, or finds
//! the disk full, at the `n`th passing of one failpoint. The parent then reopens the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::{ActionRecord, Contents, Digest, Gc, Object, Output, RECORD_FORMAT, Roots, SaveError, Store, StoreError};

/// All failpoints of the crate; a test compares them with the source.
const POINTS: [&str; 36] = [
    "open-before-version",
    "version-written",
    "version-synced",
    "version-renamed",
    "tag-written",
    "tag-synced",
    "tag-renamed",
    "blob-written",
    "blob-synced",
    "blob-renamed",
    "move-hashed",
    "move-synced",
    "move-renamed",
    "tree-before-listing",
    "action-start",
    "action-written",
    "action-synced",
    "action-renamed",
    "checkpoint-start",
    "checkpoint-written",
    "checkpoint-synced",
    "checkpoint-renamed",
    "pin-written",
    "pin-synced",
    "pin-renamed",
    "archive-written",
    "gc-checkpoints-moved",
    "gc-evicted",
    "gc-records-gone",
    "gc-blob-gone",
    "life-written",
    "life-begun",
    "claim-start",
    "claim-written",
    "claim-made",
    "claim-freed",
];

/// What these write is for other hosts to see: a full disk keeps nobody from work on this one.
fn is_for_others(point: &str) -> bool {
    point.starts_with("life-") || point.starts_with("claim-")
}

const ROOT: &str = "OPDFLOW_CRASH_ROOT";

fn record(key: &[u8], object: Object) -> ActionRecord {
    let output = Output { object, port_type: "lora".to_owned(), semantic: true };
    ActionRecord {
        format: RECORD_FORMAT,
        key: Digest::of(key),
        lineage: Digest::of(b"lineage"),
        manifest: serde_json::json!({"rate": 0.1}),
        outputs: BTreeMap::from([("out".to_owned(), output)]),
        seconds: 1.0,
        finished: crate::utc_now(),
        note: BTreeMap::new(),
    }
}

/// One life of a store: everything that writes.
fn life(root: &Path) -> Result<(), StoreError> {
    let store = Store::open(&root.join("store"))?;
    let in_use = store.shared()?;
    let lease = store.lease(&Digest::of(b"lineage"))?;
    let source = root.join("source");
    for name in ["a", "b/c", "b/d"] {
        let path = source.join(name);
        let io = |e| StoreError::io("write", &path, e);
        fs::create_dir_all(path.parent().unwrap_or(root)).map_err(io)?;
        fs::write(&path, name.repeat(500)).map_err(io)?;
    }
    let tree = store.put_path(&source)?;
    store.publish(&record(b"tree", tree))?;
    // Big enough to be moved. A life that goes on after a death makes it anew.
    let work = store.work_dir(&Digest::of(b"moved"))?.join("big");
    let _ = fs::remove_file(&work);
    fs::write(&work, b"0123456789abcdef".repeat(70_000)).map_err(|e| StoreError::io("write", &work, e))?;
    store.publish(&record(b"moved", store.take_path(&work)?))?;
    store.publish(&record(b"tree", store.put_bytes(b"another result")?))?;
    store.publish(&record(b"cheap", store.put_bytes(b"cheap")?))?;
    for (lineage, step) in
        [(&b"lineage"[..], 10), (b"lineage", 20), (b"lineage", 30), (b"unneeded", 5), (b"unneeded", 6)]
    {
        let fill = |dir: &Path| {
            fs::write(dir.join("weights"), step.to_string())?;
            fs::write(dir.join("optimizer"), "m")
        };
        store.checkpoints(&Digest::of(lineage)).save(step, 1.0, 2, fill).map_err(|e| match e {
            SaveError::Write(e) => StoreError::io("write", root, e),
            SaveError::Store(e) => e,
        })?;
    }
    store.pin("best", &Digest::of(b"tree"))?;
    let archive = root.join("out/run.tar");
    let _ = fs::remove_file(&archive);
    let lineages = [Digest::of(b"lineage")];
    let files = BTreeMap::new();
    store.pack(&archive, &Contents { keys: &[Digest::of(b"tree")], lineages: &lineages, files: &files })?;
    drop((lease, in_use));
    let roots = Roots { keys: BTreeSet::new(), lineages: BTreeSet::from(lineages) };
    store.gc(&Gc { budget_bytes: Some(0), grace: Duration::ZERO, dry_run: false }, || Ok(roots))?;
    Ok(())
}

/// Not a test of its own: the life that the others start in a child process.
#[test]
fn child() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    let code = match life(Path::new(&root)) {
        Ok(()) => 0,
        Err(StoreError::NoSpace { .. }) => 3,
        Err(_) => 4,
    };
    std::process::exit(code);
}

fn run(root: &Path, failpoint: &str) -> ExitStatus {
    let me = std::env::current_exe().unwrap();
    let mut command = Command::new(me);
    command.args(["--exact", "crash::child", "--quiet"]).env(ROOT, root).env("OPDFLOW_FAILPOINT", failpoint);
    command.output().unwrap().status
}

/// What must hold after a death at any moment.
fn look_over(root: &Path, when: &str) {
    let store = Store::open(&root.join("store")).unwrap();
    for record in store.actions() {
        for (port, output) in &record.outputs {
            store.check(&output.object).unwrap_or_else(|e| panic!("{when}: `{port}`: {e}"));
        }
    }
    if let Some(head) = store.checkpoints(&Digest::of(b"lineage")).head().unwrap() {
        assert_eq!(fs::read_to_string(head.path.join("weights")).unwrap(), head.step.to_string(), "{when}");
    }
    assert_eq!(store.verify(true).unwrap().damage, [], "{when}");
    assert_eq!(store.warnings(), [], "{when}");
    // A child that another test is starting has our files for a moment, this store's lock among them.
    assert!(store.try_lease(&Digest::of(b"lineage")).unwrap().is_some(), "{when}: a dead process holds a lease");
    let free = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        store.try_exclusive().unwrap().is_some()
    });
    assert!(free, "{when}: a dead process holds a lock");
}

/// Whatever happened before, the next life comes to the same end.
fn live_again(root: &Path, when: &str) {
    assert!(run(root, "").success(), "{when}: the next run does not come through");
    look_over(root, when);
    let store = Store::open(&root.join("store")).unwrap();
    let tree = store.action(&Digest::of(b"tree")).unwrap().unwrap();
    assert_eq!(tree.size(), 3500, "{when}: the first result is pinned");
    assert_eq!(store.attempts(&tree.key).unwrap().len(), 1, "{when}");
    assert_eq!(store.action(&Digest::of(b"cheap")).unwrap(), None, "{when}");
    let steps: Vec<_> = store.checkpoints(&Digest::of(b"lineage")).list().iter().map(|c| c.step).collect();
    assert_eq!(steps, [20, 30], "{when}");
    assert_eq!(store.checkpoints(&Digest::of(b"unneeded")).list(), [], "{when}");
    assert_eq!(store.usage().tmp.files, 0, "{when}: the sweep leaves nothing of the dead");
    let out: Vec<_> = fs::read_dir(root.join("out")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(out, ["run.tar"], "{when}: the next export leaves nothing of the dead");
}

/// Runs the life with death at the first, second, ... passing of each point, until it comes through.
fn at_every_point(how: &str, after: impl Fn(&Path, ExitStatus, &str)) {
    for point in POINTS.into_iter().filter(|p| how == "kill" || !is_for_others(p)) {
        let mut deaths = 0;
        loop {
            let when = format!("{point}:{how}:{}", deaths + 1);
            let dir = tempfile::tempdir().unwrap();
            let status = run(dir.path(), &when);
            if status.success() {
                break;
            }
            deaths += 1;
            after(dir.path(), status, &when);
        }
        assert!(deaths > 0, "{point} is never reached");
    }
}

#[test]
fn killed_at_every_step() {
    at_every_point("kill", |root, status, when| {
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{when}");
        look_over(root, when);
        live_again(root, when);
    });
}

#[test]
fn out_of_space_at_every_step() {
    at_every_point("nospace", |root, status, when| {
        assert_eq!(status.code(), Some(3), "{when}: not reported as a full disk");
        look_over(root, when);
        live_again(root, when);
    });
}

#[test]
fn a_full_disk_only_keeps_us_from_being_seen() {
    for point in POINTS.into_iter().filter(|p| is_for_others(p)) {
        let dir = tempfile::tempdir().unwrap();
        let when = format!("{point}:nospace");
        assert!(run(dir.path(), &when).success(), "{when}");
        look_over(dir.path(), &when);
    }
}

#[test]
fn the_list_of_points_is_whole() {
    let mut found = BTreeSet::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.ends_with("crash.rs") {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        for call in ["failpoint(\"", "point(\"", "step_point(\""] {
            found.extend(text.split(call).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    for point in &found {
        assert!(POINTS.contains(&point.as_str()), "{point} is not tried");
    }
    assert_eq!(found.len(), 24, "of the points whose whole names stand in the sources: {found:?}");
}
