//! One store, several hosts. Their names are made up; they share no lock of the system, as on a file system that keeps locks
//! to one host: those that must not see each other's use heartbeats alone.

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use opdflow_cache::{Digest, Gc, Host, Lease, Locks, Roots, SaveError, Setting, Sight, Standing, Store, StoreError};

const ROOT: &str = "OPDFLOW_HOSTS_ROOT";
const TASK: &str = "OPDFLOW_HOSTS_TASK";
const HOST: &str = "OPDFLOW_HOSTS_NAME";

const BEAT: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_millis(900);

fn setting(host: &str, locks: Locks) -> Setting {
    Setting { host: Host::made_of(host, &["boot"]), locks, beat: BEAT, patience: PATIENCE }
}

/// The store as this process sees it as one of that host.
fn on(root: &Path, host: &str) -> Store {
    Store::open_as(root, setting(host, Locks::Heartbeat)).unwrap()
}

fn key() -> Digest {
    Digest::of(b"key")
}

/// A process on a host.
struct Process {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Process {
    fn start(root: &Path, host: &str, task: &str) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]).env(ROOT, root).env(TASK, task).env(HOST, host);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Process { child, to, from }
    }
    fn hears(&mut self, word: &str) {
        let said = (&mut self.from).lines().map_while(Result::ok).any(|line| line == word);
        assert!(said, "the process never said `{word}`");
    }
    fn say(&mut self) {
        self.to.write_all(b"\n").unwrap();
    }
    fn signal(&self, signal: i32) {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }
    fn ends(mut self) {
        self.say();
        assert!(self.child.wait().unwrap().success());
    }
    fn dies(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn word(text: &str) {
    println!("\n{text}");
}

/// Waits for a word from the test.
fn ask() {
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
}

/// Not a test of its own: what the others start in a process.
#[test]
fn child() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let host = std::env::var(HOST).unwrap();
    let task = std::env::var(TASK).unwrap();
    let locks = if task == "locks" { Locks::System } else { Locks::Heartbeat };
    let store = Store::open_as(Path::new(&root), setting(&host, locks)).unwrap();
    match task.as_str() {
        "hold" | "locks" => {
            let _in_use = store.shared().unwrap();
            let lease = store.lease(&key()).unwrap();
            lease.note("step 3 of 9").unwrap();
            word("ready");
            ask();
        }
        "loses" => {
            let lease = store.lease(&key()).unwrap();
            let tenure = lease.tenure();
            let work = store.work_of(&lease).unwrap();
            word("ready");
            ask();
            let began = Instant::now();
            while !tenure.is_lost() {
                assert!(began.elapsed() < Duration::from_secs(20), "no heartbeat finds that the lease is lost");
                std::thread::sleep(BEAT);
            }
            assert!(matches!(lease.check(), Err(StoreError::LeaseLost { by, .. }) if by.ends_with(" on b")));
            let save = store.checkpoints(&key()).under(&lease).save(9, 1.0, 2, |dir| fs::write(dir.join("w"), "mine"));
            assert!(matches!(save, Err(SaveError::Store(StoreError::LeaseLost { .. }))));
            assert!(!work.exists(), "who took over clears away what is of no use");
            fs::create_dir_all(work.join("outputs")).unwrap();
            store.clear_work(&lease).unwrap();
            assert!(!work.exists());
            lease.note("I am still here").unwrap();
            drop(lease);
            word("lost");
            ask();
        }
        "share" => {
            let _lock = store.shared().unwrap();
            word("ready");
            ask();
        }
        "sweep" => {
            let swept = store.gc(&all(), || {
                word("ready");
                ask();
                Ok::<_, StoreError>(Roots::default())
            });
            word(match swept {
                Ok(_) => "swept",
                Err(StoreError::InUse { .. }) => "in use",
                Err(e) => panic!("{e}"),
            });
            ask();
        }
        other => panic!("{other}"),
    }
    std::process::exit(0);
}

fn all() -> Gc {
    Gc { budget_bytes: Some(0), grace: Duration::ZERO, dry_run: false }
}

fn gc(store: &Store) -> Result<opdflow_cache::GcReport, StoreError> {
    store.gc(&all(), || Ok::<_, StoreError>(Roots::default()))
}

fn root() -> (tempfile::TempDir, PathBuf) {
    // In memory where there is such a place: a busy disk may hold a heartbeat up for longer than these hosts have patience.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let root = dir.path().join("store");
    Store::open(&root).unwrap();
    (dir, root)
}

/// Asks for the lease for so long; how long it took.
fn taken(store: &Store, at_most: Duration) -> Option<(Lease, Duration)> {
    let began = Instant::now();
    while began.elapsed() < at_most {
        if let Some(lease) = store.try_lease(&key()).unwrap() {
            return Some((lease, began.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_lease_holds_on_other_hosts_while_its_process_lives_and_ends_a_stated_time_after_it() {
    let (_dir, root) = root();
    for task in ["hold", "locks"] {
        let mut holder = Process::start(&root, "a", task);
        holder.hears("ready");
        let (b, locking) = (on(&root, "b"), Store::open_as(&root, setting("b", Locks::System)).unwrap());
        assert!(taken(&b, PATIENCE * 2).is_none(), "taken from one who lives");
        assert!(locking.try_lease(&key()).unwrap().is_none());
        let seen = b.lease_holder(&key()).unwrap();
        assert_eq!((seen.pid, seen.host.as_str(), seen.note.as_str()), (holder.child.id(), "a", "step 3 of 9"));
        // Dead: no process, no lock, and a fresh sign.
        holder.dies();
        assert!(taken(&b, PATIENCE / 2).is_none(), "{task}: taken over before the stated time");
        let note = b.lease_holder(&key()).unwrap().note;
        assert!(note.starts_with("no sign of life for 0 s; after 0 s"), "{note}");
        let (lease, after) = taken(&b, LONG).expect("a dead host keeps its lease");
        assert!(after >= PATIENCE / 2 - BEAT * 2, "{task}: taken over after {after:?}");
        assert_eq!(b.lease_holder(&key()).unwrap().host, "b");
        drop(lease);
        assert_eq!(b.lease_holder(&key()), None);
    }
    // Given back, it is free on all hosts at once.
    let mut holder = Process::start(&root, "a", "hold");
    holder.hears("ready");
    let b = on(&root, "b");
    assert!(b.try_lease(&key()).unwrap().is_none());
    holder.ends();
    let lease = b.try_lease(&key()).unwrap().expect("a lease that was given back");
    drop(lease);
    assert_eq!(b.lease_holder(&key()), None);
}

/// The times of files, and so the clocks of the hosts, say nothing.
#[test]
fn clocks_an_hour_apart_change_nothing() {
    let (_dir, root) = root();
    for ahead in [false, true] {
        let mut holder = Process::start(&root, "a", "hold");
        holder.hears("ready");
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let hour = Duration::from_secs(3600);
                while !over.load(Ordering::SeqCst) {
                    let now = SystemTime::now();
                    let time = if ahead { now + hour } else { now - hour };
                    for path in
                        common::files(&root.join("users")).into_iter().chain(common::files(&root.join("leases")))
                    {
                        let _ = File::open(path).and_then(|f| f.set_modified(time));
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let b = on(&root, "b");
            let early = taken(&b, PATIENCE * 2);
            holder.dies();
            let late = taken(&b, LONG);
            over.store(true, Ordering::SeqCst);
            assert!(early.is_none(), "ahead: {ahead}");
            let (lease, after) = late.expect("taken over in the end");
            assert!(after >= PATIENCE - BEAT * 2, "ahead: {ahead}, after {after:?}");
            drop(lease);
        });
    }
}

#[test]
fn one_who_only_stood_still_finds_that_the_lease_is_lost_and_does_no_harm() {
    let (_dir, root) = root();
    let mut holder = Process::start(&root, "a", "loses");
    holder.hears("ready");
    holder.signal(libc::SIGSTOP);
    let b = on(&root, "b");
    let (lease, _) = taken(&b, LONG).expect("a process that stands still for so long counts as dead");
    let work = b.work_of(&lease).unwrap();
    fs::write(work.join("output"), "of b").unwrap();
    let save = |step, text: &str| {
        let fill = |dir: &Path| fs::write(dir.join("w"), text);
        b.checkpoints(&key()).under(&lease).save(step, 1.0, 2, fill).unwrap()
    };
    save(5, "of b");
    lease.note("step 5").unwrap();
    holder.signal(libc::SIGCONT);
    holder.say();
    holder.hears("lost");
    lease.check().unwrap();
    assert_eq!(fs::read(work.join("output")).unwrap(), b"of b");
    assert_eq!(b.checkpoints(&key()).head().unwrap().unwrap().step, 5);
    assert_eq!(b.lease_holder(&key()).unwrap().note, "step 5");
    assert!(on(&root, "c").try_lease(&key()).unwrap().is_none(), "the old holder gave away what it did not have");
    save(7, "of b");
    holder.ends();
    drop(lease);
    assert!(on(&root, "c").try_lease(&key()).unwrap().is_some());
}

#[test]
fn of_several_hosts_that_take_over_one_does() {
    let (_dir, root) = root();
    let key = key();
    for round in 0..12 {
        // It left its sign and its claim, and is gone.
        let mut holder = Process::start(&root, "a", "hold");
        holder.hears("ready");
        holder.dies();
        let (start, held, won) = (Barrier::new(4), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|threads| {
            for n in 0..4 {
                let (root, start, held, won) = (&root, &start, &held, &won);
                threads.spawn(move || {
                    let quick = Setting { patience: BEAT, ..setting(&format!("b{n}"), Locks::Heartbeat) };
                    let store = Store::open_as(root, quick).unwrap();
                    start.wait();
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(300) {
                        if let Some(lease) = store.try_lease(&key).unwrap() {
                            assert_eq!(held.fetch_add(1, Ordering::SeqCst), 0, "two hold it, round {round}");
                            won.fetch_add(1, Ordering::SeqCst);
                            std::thread::sleep(Duration::from_millis(1));
                            lease.check().unwrap();
                            held.fetch_sub(1, Ordering::SeqCst);
                            drop(lease);
                            break;
                        }
                    }
                });
            }
        });
        assert!(won.into_inner() >= 1, "round {round}");
    }
}

#[test]
fn nobody_sweeps_under_another_host() {
    let (_dir, root) = root();
    let b = on(&root, "b");
    let blob = b.put_bytes(b"nobody's").unwrap();
    let mut user = Process::start(&root, "a", "share");
    user.hears("ready");
    let refused = gc(&b).unwrap_err();
    assert!(matches!(&refused, StoreError::InUse { by, .. } if by.len() == 1), "{refused}");
    assert!(refused.to_string().contains(&format!("(process {} on a)", user.child.id())), "{refused}");
    assert_eq!(b.foreign_users().unwrap(), [format!("process {} on a", user.child.id())]);
    assert!(b.try_exclusive().unwrap().is_none() && b.present(&blob));
    // On its own host it is seen, too, without a lock.
    assert!(matches!(gc(&on(&root, "a")), Err(StoreError::InUse { .. })));
    user.dies();
    let began = Instant::now();
    gc(&b).unwrap();
    assert!(began.elapsed() >= PATIENCE - BEAT * 2, "passed over after {:?}", began.elapsed());
    assert!(!b.present(&blob));
    let warnings = b.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].what.contains("on a has given no sign of life"), "{warnings:?}");
    assert!(common::files(&root.join("users")).is_empty(), "nobody waits for it again");
    let began = Instant::now();
    gc(&b).unwrap();
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn on_its_own_host_a_dead_user_is_known_at_once() {
    let (_dir, root) = root();
    let mut user = Process::start(&root, "a", "share");
    user.hears("ready");
    let a = on(&root, "a");
    assert!(matches!(gc(&a), Err(StoreError::InUse { by, .. }) if by.is_empty()));
    user.dies();
    gc(&a).unwrap();
    assert!(a.warnings().is_empty() && common::files(&root.join("users")).is_empty());
}

#[test]
fn nobody_comes_while_another_host_sweeps_until_that_is_dead() {
    let (_dir, root) = root();
    let b = on(&root, "b");
    let blob = b.put_bytes(b"nobody's").unwrap();
    let mut sweeper = Process::start(&root, "a", "sweep");
    sweeper.hears("ready");
    assert!(b.try_shared().unwrap().is_none() && b.try_exclusive().unwrap().is_none());
    // It stands still for so long that it counts as dead, and others come.
    sweeper.signal(libc::SIGSTOP);
    let began = Instant::now();
    let lock = b.shared().unwrap();
    assert!(began.elapsed() >= PATIENCE - BEAT * 2, "{:?}", began.elapsed());
    b.put_bytes(b"needed").unwrap();
    sweeper.signal(libc::SIGCONT);
    sweeper.say();
    sweeper.hears("in use");
    assert!(b.present(&blob), "swept under a user");
    sweeper.ends();
    drop(lock);
    let mut sweeper = Process::start(&root, "a", "sweep");
    sweeper.hears("ready");
    sweeper.say();
    sweeper.hears("swept");
    assert!(!b.present(&blob));
    drop(b.shared().unwrap());
    sweeper.ends();
}

#[test]
fn a_file_system_without_locks_gets_a_choice() {
    let (_dir, root) = root();
    for code in [libc::ENOSYS, libc::EBADF, libc::ENOLCK, libc::EOPNOTSUPP] {
        let store = Store::open_as(&root, setting("a", Locks::Failing(code))).unwrap();
        let save = store.checkpoints(&key()).save(1, 1.0, 2, |dir| fs::write(dir.join("w"), ""));
        let Err(SaveError::Store(save)) = save else { panic!("saved without a lock") };
        for error in
            [store.shared().unwrap_err(), store.try_exclusive().unwrap_err(), store.lease(&key()).unwrap_err(), save]
        {
            assert!(matches!(error, StoreError::NoLocks { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("set OPDFLOW_STORE") && text.contains("OPDFLOW_LOCKS=heartbeat"), "{text}");
        }
        assert!(matches!(gc(&store), Err(StoreError::NoLocks { .. })));
    }
    // Any other trouble is that trouble.
    let store = Store::open_as(&root, setting("a", Locks::Failing(libc::EIO))).unwrap();
    assert!(matches!(store.shared(), Err(StoreError::Io { .. })));
    // A new store is refused before anything is made.
    let fresh = root.with_file_name("fresh");
    let refused = Store::open_as(&fresh, setting("a", Locks::Failing(libc::ENOSYS)));
    assert!(matches!(refused, Err(StoreError::NoLocks { .. })), "{refused:?}");
    Store::open_as(&fresh, setting("a", Locks::Heartbeat)).unwrap();
}

#[test]
fn heartbeats_alone_keep_the_processes_of_one_host_apart() {
    let (_dir, root) = root();
    let a = on(&root, "a");
    let lease = a.try_lease(&key()).unwrap().unwrap();
    assert!(a.try_lease(&key()).unwrap().is_none(), "not twice in one process");
    assert!(on(&root, "a").try_lease(&key()).unwrap().is_none());
    drop(lease);
    let mut holder = Process::start(&root, "a", "hold");
    holder.hears("ready");
    assert!(taken(&a, PATIENCE).is_none());
    // Even one that stands still: it is there.
    holder.signal(libc::SIGSTOP);
    assert!(taken(&a, PATIENCE * 2).is_none(), "taken from a process of this host");
    holder.signal(libc::SIGCONT);
    holder.dies();
    assert!(a.try_lease(&key()).unwrap().is_some(), "a dead process of this host is known at once");
    let (start, won) = (Barrier::new(8), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                start.wait();
                let lease = a.try_lease(&key()).unwrap();
                won.fetch_add(usize::from(lease.is_some()), Ordering::SeqCst);
                start.wait();
            });
        }
    });
    assert_eq!(won.into_inner(), 1, "threads of one process");
}

#[test]
fn what_older_programs_do_is_respected() {
    let (_dir, root) = root();
    // Its store has no folder for signs.
    fs::remove_dir(root.join("users")).unwrap();
    let store = Store::open_as(&root, setting("a", Locks::System)).unwrap();
    assert!(root.join("users").is_dir());
    // Its lease is a lock, and a holder without a host.
    let path = root.join("leases").join(key().to_string());
    let file = File::options().write(true).create_new(true).open(&path).unwrap();
    file.lock().unwrap();
    fs::write(path.with_extension("json"), r#"{"pid":7,"started":"2026-01-01T00:00:00Z","note":"step 1 of 2"}"#)
        .unwrap();
    assert!(store.try_lease(&key()).unwrap().is_none());
    let holder = store.lease_holder(&key()).unwrap();
    assert_eq!((holder.pid, holder.note.as_str(), holder.host.as_str()), (7, "step 1 of 2", ""));
    drop(file);
    assert_eq!(store.lease_holder(&key()), None);
    assert!(store.try_lease(&key()).unwrap().is_some());
    // Its use of the store is a lock, too.
    let lock = File::options().write(true).read(true).open(root.join("lock")).unwrap();
    lock.lock_shared().unwrap();
    assert!(matches!(gc(&store), Err(StoreError::InUse { .. })));
    drop(lock);
    gc(&store).unwrap();
}

#[test]
fn parts_of_checkpoints_are_cleared_when_nobody_writes_them() {
    let (_dir, root) = root();
    let mut saver = Process::start(&root, "a", "share");
    saver.hears("ready");
    let sign = common::files(&root.join("users")).into_iter().find(|p| p.extension().is_some()).unwrap();
    let token = sign.file_stem().unwrap().to_str().unwrap().to_owned();
    let b = Store::open_as(&root, setting("b", Locks::System)).unwrap();
    let checkpoints = b.checkpoints(&key());
    let save = |step| checkpoints.save(step, 1.0, 2, |dir| fs::write(dir.join("w"), "w")).unwrap();
    save(1);
    let dir = root.join("checkpoints").join(key().to_string());
    let part = |name: &str| {
        fs::create_dir_all(dir.join(name).join("files")).unwrap();
        dir.join(name)
    };
    let foreign = part(&format!("part-of-{}-{token}-abcdef", Host::made_of("a", &["boot"]).id));
    let dead_here = part(&format!("part-of-{}-0123456789abcdef-abcdef", Host::made_of("b", &["boot"]).id));
    let older = part("part-abcdef");
    save(2);
    assert!(foreign.exists() && !dead_here.exists() && !older.exists());
    saver.dies();
    let began = Instant::now();
    let mut step = 3;
    while foreign.exists() {
        assert!(began.elapsed() < LONG);
        save(step);
        step += 1;
        std::thread::sleep(BEAT);
    }
    assert!(began.elapsed() >= PATIENCE - BEAT * 2, "{:?}", began.elapsed());
}

/// Where no more files can be made, as on a full disk, heartbeats go on all the same.
#[test]
fn a_full_disk_is_no_death() {
    let (_dir, root) = root();
    let mut holder = Process::start(&root, "a", "hold");
    holder.hears("ready");
    let sign = common::files(&root.join("users")).into_iter().find(|p| p.extension().is_some()).unwrap();
    let temp = sign.with_extension("").with_file_name(format!(".{}", sign.file_stem().unwrap().to_str().unwrap()));
    while fs::create_dir(&temp).is_err() {}
    let before = fs::read(&sign).unwrap();
    assert!(taken(&on(&root, "b"), PATIENCE * 2).is_none());
    assert_ne!(fs::read(&sign).unwrap(), before);
    holder.ends();
}

#[test]
fn a_process_is_watched_from_outside() {
    let (_dir, root) = root();
    let mut user = Process::start(&root, "a", "share");
    user.hears("ready");
    let sign = common::files(&root.join("users")).into_iter().find(|p| p.extension().is_some()).unwrap();
    let token = sign.file_stem().unwrap().to_str().unwrap();
    let sight = |host: &str| Sight::of(&root, token, setting(host, Locks::System));
    assert_eq!(sight("a").standing(), Some(Standing::Lives), "on its host that is known at once");
    assert_eq!(sight("b").standing(), Some(Standing::Silent));
    assert_eq!(sight("b").patient(), Some(Standing::Lives));
    user.dies();
    assert_eq!((sight("a").patient(), sight("b").patient()), (Some(Standing::Dead), Some(Standing::Silent)));
    assert_eq!(Sight::of(&root, "0123456789abcdef", setting("b", Locks::System)).patient(), None);
    assert!(sight("b").is_there());
}
