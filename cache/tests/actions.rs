//! Records, pins, gc and verify.

mod common;

use std::fs;
use std::time::Duration;

use common::{action_file, blob, damage, record, store, write};
use opdflow_cache::{Digest, EvictedKind, Gc, GcReport, Published, Roots, Store, StoreError};
use proptest::prelude::*;

#[test]
fn the_first_result_stays_pinned() {
    let (_dir, store) = store();
    let (a, b) = (store.put_bytes(b"a").unwrap(), store.put_bytes(b"b").unwrap());
    let (log1, log2) = (store.put_bytes(b"log 1").unwrap(), store.put_bytes(b"log 2").unwrap());
    let first = record(b"k", &[("out", a, true), ("log", log1, false)], 1.5);
    assert_eq!(store.action(&first.key).unwrap(), None);
    assert_eq!(store.publish(&first).unwrap(), Published::New);
    assert_eq!(store.action(&first.key).unwrap().as_ref(), Some(&first));
    let again = record(b"k", &[("out", a, true), ("log", log2, false)], 2.0);
    assert_eq!(store.publish(&again).unwrap(), Published::Same, "a log means nothing");
    let other = record(b"k", &[("out", b, true), ("log", log1, false)], 1.0);
    assert_eq!(store.publish(&other).unwrap(), Published::Attempt(2));
    assert_eq!(store.publish(&other).unwrap(), Published::Attempt(2));
    assert_eq!(store.action(&first.key).unwrap().as_ref(), Some(&first));
    assert_eq!(store.attempts(&first.key).unwrap(), [(2, other.clone())]);
    store.choose(&first.key, 2).unwrap();
    assert_eq!(store.action(&first.key).unwrap(), Some(other));
    assert!(store.choose(&first.key, 3).is_err());
    assert_eq!(store.actions().count(), 1, "attempts are not actions");
    assert!(store.warnings().is_empty());
}

#[test]
fn a_torn_record_is_none_and_kept_aside() {
    let (_dir, store) = store();
    let one = record(b"k", &[("out", store.put_bytes(b"a").unwrap(), true)], 1.0);
    for cut in [0, 1, 40, 200] {
        store.publish(&one).unwrap();
        let path = action_file(&store, &one.key);
        let whole = fs::read(&path).unwrap();
        damage(&path, &whole[..cut]);
        assert_eq!(store.action(&one.key).unwrap(), None, "cut at {cut}");
        let warnings = store.warnings();
        assert_eq!(warnings.len(), 1);
        assert_eq!(fs::read(warnings[0].aside.as_ref().unwrap()).unwrap(), whole[..cut]);
        assert!(!path.exists());
    }
    // A record under another key's name.
    store.publish(&one).unwrap();
    let stray = action_file(&store, &Digest::of(b"stray"));
    write(&stray, &fs::read(action_file(&store, &one.key)).unwrap());
    assert_eq!(store.action(&Digest::of(b"stray")).unwrap(), None);
    assert_eq!(store.actions().count(), 1);
}

#[test]
fn records_that_promise_what_is_not_there() {
    let (_dir, store) = store();
    let a = store.put_bytes(b"a").unwrap();
    let mut lost = record(b"k", &[("out", a, true)], 1.0);
    lost.seconds = f64::NAN;
    assert!(matches!(store.publish(&lost), Err(StoreError::Invalid { .. })));
    lost.seconds = 1.0;
    store.publish(&lost).unwrap();
    fs::remove_file(blob(&store, &a.digest)).unwrap();
    assert!(matches!(store.publish(&lost), Err(StoreError::Invalid { .. })));
    // The re-run made something else: it must hit from now on.
    let healed = record(b"k", &[("out", store.put_bytes(b"b").unwrap(), true)], 1.0);
    assert_eq!(store.publish(&healed).unwrap(), Published::New);
    assert_eq!(store.action(&healed.key).unwrap(), Some(healed));
    assert_eq!(store.warnings().len(), 1);
}

#[test]
fn verify_turns_a_broken_hit_into_a_run() {
    let (dir, store) = store();
    let tree = dir.path().join("tree");
    write(&tree.join("x/y"), b"good bytes");
    let whole = record(b"whole", &[("out", store.put_bytes(b"w").unwrap(), true)], 1.0);
    let broken = record(b"broken", &[("out", store.put_path(&tree).unwrap(), true)], 1.0);
    store.publish(&whole).unwrap();
    store.publish(&broken).unwrap();
    assert_eq!(store.verify(true).unwrap().damage, []);
    damage(&blob(&store, &Digest::of(b"good bytes")), b"evil bytes");
    assert_eq!(store.verify(false).unwrap().damage, [], "sizes alone cannot tell");
    let report = store.verify(true).unwrap();
    assert_eq!((report.actions, report.blobs, report.damage.len()), (2, 3, 2), "{report:?}");
    assert_eq!(store.action(&broken.key).unwrap(), None);
    assert_eq!(store.action(&whole.key).unwrap(), Some(whole));
    assert_eq!(store.verify(true).unwrap().damage, []);
}

fn gc(store: &Store, plan: &Gc) -> Result<GcReport, StoreError> {
    keeping(store, plan, &[])
}

fn keeping(store: &Store, plan: &Gc, keys: &[Digest]) -> Result<GcReport, StoreError> {
    store.gc(plan, || Ok(Roots { keys: keys.iter().copied().collect(), ..Roots::default() }))
}

fn all_of(plan: Gc) -> Gc {
    Gc { dry_run: false, grace: Duration::ZERO, ..plan }
}

#[test]
fn gc_evicts_what_costs_least_to_compute_again() {
    let (_dir, store) = store();
    let put = |text: &[u8], size| store.put_bytes(&text.repeat(size)).unwrap();
    let cheap = record(b"cheap", &[("out", put(b"1", 1000), true)], 1.0);
    let dear = record(b"dear", &[("out", put(b"2", 1000), true)], 5000.0);
    let pinned = record(b"pinned", &[("out", put(b"3", 1000), true)], 0.1);
    let named = record(b"named", &[("out", put(b"4", 1000), true)], 0.1);
    for one in [&cheap, &dear, &pinned, &named] {
        store.publish(one).unwrap();
    }
    let orphan = put(b"5", 1000);
    store.pin("paper-table.1", &pinned.key).unwrap();
    let keep = [named.key];
    let plan = Gc { budget_bytes: Some(3000), ..Gc::default() };
    // Dry by default, and the young are safe.
    let report = keeping(&store, &plan, &keep).unwrap();
    assert!(report.dry_run && report.evicted.is_empty() && report.swept_blobs == 0, "{report:?}");
    let dry = keeping(&store, &Gc { grace: Duration::ZERO, ..plan.clone() }, &keep).unwrap();
    assert!(store.present(&orphan));
    let report = keeping(&store, &all_of(plan.clone()), &keep).unwrap();
    assert_eq!((&report.evicted, report.after_bytes), (&dry.evicted, dry.after_bytes));
    assert_eq!((report.before_bytes, report.after_bytes, report.within_budget), (5000, 3000, true));
    let evicted: Vec<_> = report.evicted.iter().map(|e| (e.kind, e.digest)).collect();
    assert_eq!(evicted, [(EvictedKind::Action, cheap.key)]);
    assert_eq!(store.usage().blobs.bytes, 3000);
    assert_eq!(store.action(&cheap.key).unwrap(), None);
    // Nothing but the roots is left, and they stay whatever the budget.
    let report = keeping(&store, &all_of(Gc { budget_bytes: Some(0), ..plan }), &keep).unwrap();
    assert!(!report.within_budget);
    for one in [&pinned, &named] {
        store.check(&one.outputs["out"].object).unwrap();
        assert!(store.action(&one.key).unwrap().is_some());
    }
    assert_eq!(store.usage().blobs.bytes, 2000);
    assert!(store.unpin("paper-table.1").unwrap());
    assert!(!store.unpin("paper-table.1").unwrap());
    assert!(store.warnings().is_empty());
}

#[test]
fn gc_waits_for_no_one_and_sweeps_under_no_one() {
    let (_dir, store) = store();
    let user = store.shared().unwrap();
    assert!(matches!(gc(&store, &all_of(Gc::default())), Err(StoreError::InUse { .. })));
    assert!(store.try_exclusive().unwrap().is_none());
    gc(&store, &Gc::default()).unwrap();
    drop(user);
    let key = Digest::of(b"running");
    let lease = store.lease(&key).unwrap();
    let idle = store.work_dir(&Digest::of(b"idle")).unwrap();
    let busy = store.work_dir(&key).unwrap();
    gc(&store, &all_of(Gc::default())).unwrap();
    assert!(busy.exists() && !idle.exists());
    assert!(store.lease_holder(&key).is_some());
    store.clear_work(&lease).unwrap();
    assert!(!busy.exists());
}

#[test]
fn gc_refuses_what_it_cannot_read() {
    let (_dir, store) = store();
    let out = store.put_bytes(b"out").unwrap();
    fs::write(store.root().join("pins/torn"), "").unwrap();
    assert!(matches!(gc(&store, &all_of(Gc::default())), Err(StoreError::Invalid { .. })));
    assert!(store.present(&out));
    for bad in ["", "../up", ".hidden", "a/b", "a b"] {
        assert!(store.pin(bad, &out.digest).is_err(), "{bad}");
    }
}

#[test]
fn gc_takes_nothing_for_nothing_that_it_cannot_read() {
    let (dir, store) = store();
    write(&dir.path().join("tree/a"), b"in a folder");
    let listed = store.put_path(&dir.path().join("tree")).unwrap();
    let one = record(b"one", &[("out", listed, true)], 1.0);
    store.publish(&one).unwrap();
    let sweep = all_of(Gc { budget_bytes: Some(0), ..Gc::default() });
    let stopped = |path: &std::path::Path, wanted: &str| {
        let before = common::files(store.root());
        let Err(e) = gc(&store, &sweep) else { panic!("{} was swept over", path.display()) };
        let text = e.to_string();
        assert!(text.contains(&path.display().to_string()) && text.contains("nothing was removed"), "{text}");
        assert!(text.contains(wanted), "{text}");
        assert_eq!(common::files(store.root()), before);
        assert!(store.warnings().is_empty(), "nothing was even moved");
    };
    // A record, whose blobs would be nobody's.
    let path = action_file(&store, &one.key);
    let whole = fs::read(&path).unwrap();
    for torn in [&b""[..], &whole[..100], b"{}"] {
        fs::write(&path, torn).unwrap();
        stopped(&path, "opdflow verify");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    stopped(&path, "remove it");
    fs::remove_dir(&path).unwrap();
    fs::write(&path, &whole).unwrap();
    // An attempt beside it.
    let attempt = path.with_file_name(format!("{}.attempt-2.json", one.key));
    fs::write(&attempt, "").unwrap();
    stopped(&attempt, "opdflow verify");
    fs::remove_file(&attempt).unwrap();
    // A listing, whose files would be nobody's.
    let listing = blob(&store, &listed.digest);
    let bytes = fs::read(&listing).unwrap();
    damage(&listing, &bytes[..20]);
    stopped(&listing, "opdflow verify");
    damage(&listing, &bytes);
    // A pin that is a folder.
    fs::create_dir(store.root().join("pins/p")).unwrap();
    assert!(matches!(gc(&store, &sweep), Err(StoreError::Invalid { .. })));
    store.check(&listed).unwrap();
    fs::remove_dir(store.root().join("pins/p")).unwrap();
    assert_eq!(gc(&store, &sweep).unwrap().evicted.len(), 1);
}

#[test]
fn roots_are_read_when_nobody_uses_the_store() {
    let (_dir, store) = store();
    let mut asked = false;
    let report = store.gc(&all_of(Gc::default()), || {
        asked = true;
        assert!(store.try_shared().unwrap().is_none(), "a run may begin while the roots are read");
        Ok::<_, StoreError>(Roots::default())
    });
    assert!(report.is_ok() && asked);
    let user = store.shared().unwrap();
    let late = store.gc(&all_of(Gc::default()), || -> Result<Roots, StoreError> { panic!("the store is in use") });
    assert!(matches!(late, Err(StoreError::InUse { .. })));
    drop(user);
}

/// A few actions over a few shared blobs, some of them trees.
fn world() -> impl Strategy<Value = Vec<(Vec<u8>, bool, bool, f64)>> {
    proptest::collection::vec((proptest::collection::vec(0..6_u8, 1..4), any::<bool>(), any::<bool>(), 0.0..9.0), 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn gc_never_takes_what_a_root_reaches(world in world(), budget in 0..4000_u64, dry_run in any::<bool>()) {
        let (dir, store) = store();
        let mut keep = Vec::new();
        let mut records = Vec::new();
        for (n, (files, as_tree, root, seconds)) in world.iter().enumerate() {
            let folder = dir.path().join(n.to_string());
            for file in files {
                write(&folder.join(file.to_string()), &[*file; 300]);
            }
            let from = if *as_tree { folder } else { folder.join(files[0].to_string()) };
            let one = record(&[n as u8], &[("out", store.put_path(&from).unwrap(), true)], *seconds);
            store.publish(&one).unwrap();
            if *root {
                keep.push(one.key);
            }
            records.push(one);
        }
        let plan = Gc { budget_bytes: Some(budget), dry_run, grace: Duration::ZERO };
        let report = keeping(&store, &plan, &keep).unwrap();
        prop_assert_eq!(report.within_budget, report.after_bytes <= budget);
        if !dry_run {
            prop_assert_eq!(store.usage().blobs.bytes, report.after_bytes);
        }
        for one in &records {
            let found = store.action(&one.key).unwrap();
            prop_assert!(found.is_some() || (!dry_run && !keep.contains(&one.key)));
            if found.is_some() {
                whole(&store, one)?;
            }
        }
    }
}

fn whole(store: &Store, one: &opdflow_cache::ActionRecord) -> Result<(), TestCaseError> {
    prop_assert!(store.check(&one.outputs["out"].object).is_ok(), "a record outlived its blobs");
    Ok(())
}
