//! What goes in comes out, and only that.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use common::{blob, damage, store, write};
use opdflow_cache::{Digest, Object, ObjectKind, Store, StoreError};
use proptest::prelude::*;

#[test]
fn bytes() {
    let (dir, store) = store();
    let object = store.put_bytes(b"weights").unwrap();
    assert_eq!(object, Object { digest: Digest::of(b"weights"), kind: ObjectKind::Blob, size: 7 });
    assert!(store.present(&object));
    store.check(&object).unwrap();
    assert_eq!(store.read(&object.digest).unwrap(), b"weights");
    let dest = dir.path().join("a/b/out");
    store.place(&object, &dest).unwrap();
    assert_eq!(fs::read(&dest).unwrap(), b"weights");
    assert!(matches!(store.place(&object, &dest), Err(StoreError::Exists { .. })));
    let nothing = Object { digest: Digest::of(b"never"), ..object };
    assert!(!store.present(&nothing));
    assert!(matches!(store.read(&nothing.digest), Err(StoreError::Missing { .. })));
    assert!(store.warnings().is_empty());
}

#[test]
fn a_big_file_and_an_empty_one() {
    let (dir, store) = store();
    for size in [0, 1, (1 << 20) + 1, 5 << 20] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 253) as u8).collect();
        let path = dir.path().join(format!("in-{size}"));
        write(&path, &bytes);
        let object = store.put_path(&path).unwrap();
        assert_eq!((object.digest, object.size), (Digest::of(&bytes), size as u64));
        assert_eq!(store.put_path(&path).unwrap(), object);
        let out = dir.path().join(format!("out-{size}"));
        store.place(&object, &out).unwrap();
        assert_eq!(fs::read(out).unwrap(), bytes);
    }
}

#[test]
fn what_is_given_out_is_a_copy_of_its_own() {
    let (dir, store) = store();
    let object = store.put_bytes(b"base").unwrap();
    let dest = dir.path().join("input");
    store.place(&object, &dest).unwrap();
    fs::write(&dest, b"scribble").unwrap();
    assert_eq!(store.read(&object.digest).unwrap(), b"base");
    let mode = fs::metadata(blob(&store, &object.digest)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
}

#[test]
fn a_tree_is_its_files_and_nothing_else() {
    let (dir, store) = store();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let files = [("b/c.txt", "1"), ("a", "2"), ("b-d", "3"), ("b/e/f", "1")];
    for (name, text) in files {
        write(&one.join(name), text.as_bytes());
    }
    for (name, text) in files.iter().rev() {
        write(&two.join(name), text.as_bytes());
        let file = fs::File::options().write(true).open(two.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(1 << 20)).unwrap();
    }
    fs::set_permissions(two.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
    let object = store.put_path(&one).unwrap();
    assert_eq!(object, store.put_path(&two).unwrap());
    assert_eq!((object.kind, object.size), (ObjectKind::Tree, 4));
    let names: Vec<_> = store.tree(&object.digest).unwrap().into_iter().map(|e| e.path).collect();
    assert_eq!(names, ["a", "b-d", "b/c.txt", "b/e/f"]);
    fs::rename(two.join("a"), two.join("z")).unwrap();
    assert_ne!(object.digest, store.put_path(&two).unwrap().digest);
    let dest = dir.path().join("out");
    fs::create_dir(&dest).unwrap();
    assert!(matches!(store.place(&object, &dest), Err(StoreError::Exists { .. })), "not even into an empty folder");
    assert!(matches!(store.tree(&store.put_bytes(b"x").unwrap().digest), Err(StoreError::Invalid { .. })));
}

#[test]
fn links_and_pipes_are_refused() {
    let (dir, store) = store();
    let tree = dir.path().join("tree");
    write(&tree.join("real"), b"x");
    symlink("real", tree.join("link")).unwrap();
    let Err(StoreError::Special { path, what }) = store.put_path(&tree) else { panic!("not refused") };
    assert_eq!((path, what), (tree.join("link"), "symbolic link"));
    assert!(matches!(store.put_path(&tree.join("link")), Err(StoreError::Special { .. })));
    fs::remove_file(tree.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    assert!(matches!(store.put_path(&tree), Err(StoreError::Special { what: "socket", .. })));
    assert!(store.put_path(&dir.path().join("nothing")).is_err());
}

#[test]
fn tampered_bytes_are_never_served() {
    let (dir, store) = store();
    type Reading = fn(&Store, &Object, &std::path::Path) -> Result<(), StoreError>;
    let readings: [Reading; 3] = [
        |store, object, _| store.read(&object.digest).map(drop),
        |store, object, dest| store.place(object, dest),
        |store, object, _| store.check(object),
    ];
    for reading in readings {
        let object = store.put_bytes(b"the truth").unwrap();
        let path = blob(&store, &object.digest);
        damage(&path, b"the truty");
        let dest = dir.path().join("dest");
        let Err(StoreError::Damaged { aside: Some(aside), .. }) = reading(&store, &object, &dest) else {
            panic!("served")
        };
        assert_eq!(fs::read(aside).unwrap(), b"the truty", "kept for a look");
        assert!(!dest.exists() && !store.present(&object));
        assert_eq!(store.warnings().len(), 1);
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["store"], "nothing half-placed is left");
}

#[test]
fn a_blob_emptied_by_a_power_cut_is_seen_and_healed() {
    let (_dir, store) = store();
    let object = store.put_bytes(b"bytes").unwrap();
    damage(&blob(&store, &object.digest), b"");
    assert!(!store.present(&object));
    assert_eq!(store.put_bytes(b"bytes").unwrap(), object);
    assert!(store.present(&object));
    assert_eq!(store.read(&object.digest).unwrap(), b"bytes");
}

#[test]
fn a_tree_with_a_lost_or_damaged_file_is_not_present() {
    let (dir, store) = store();
    let tree = dir.path().join("tree");
    write(&tree.join("a"), b"aa");
    write(&tree.join("b"), b"bb");
    let object = store.put_path(&tree).unwrap();
    store.check(&object).unwrap();
    damage(&blob(&store, &Digest::of(b"bb")), b"bc");
    assert!(store.present(&object), "sizes alone cannot tell");
    let dest = dir.path().join("dest");
    assert!(store.place(&object, &dest).is_err_and(|e| e.is_lost()));
    assert!(!dest.exists());
    assert!(!store.present(&object));
    assert!(store.check(&object).is_err_and(|e| e.is_lost()));
    assert_eq!(store.put_path(&tree).unwrap(), object);
    store.check(&object).unwrap();
    assert!(!store.present(&Object { size: 5, ..object }), "a record with a wrong size");
}

#[test]
fn opening() {
    let (dir, store) = store();
    let root = store.root().to_owned();
    assert!(root.join("CACHEDIR.TAG").exists());
    Store::open(&root).unwrap();
    fs::write(root.join("version"), "99\n").unwrap();
    assert!(matches!(Store::open(&root), Err(StoreError::Newer { found: 99, known: 1, .. })));
    let home = dir.path().join("home");
    write(&home.join("thesis.tex"), b"years of work");
    let Err(e) = Store::open(&home) else { panic!("opened a stranger's folder") };
    assert!(e.to_string().contains("thesis.tex") && e.to_string().contains("OPDFLOW_STORE"), "{e}");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
    // An interrupted first start is taken up.
    let fresh = dir.path().join("fresh");
    fs::create_dir_all(fresh.join("tmp")).unwrap();
    Store::open(&fresh).unwrap();
}

/// A folder in which something of a store is left, and no version, is one again; one with anything else is not.
#[test]
fn what_is_left_of_a_store_becomes_one_again() {
    let (dir, store) = store();
    let tree = dir.path().join("tree");
    write(&tree.join("a"), b"a");
    let object = store.put_path(&tree).unwrap();
    store.pin("p", &object.digest).unwrap();
    store.work_dir(&object.digest).unwrap();
    drop(store.lease(&object.digest).unwrap());
    drop(store.shared().unwrap());
    let root = store.root().to_owned();
    fs::remove_file(root.join("version")).unwrap();
    store.check(&object).unwrap();
    Store::open(&root).unwrap().check(&object).unwrap();
    for (name, mine) in [("blobs/thesis.tex", true), ("work/notes", true), ("thesis.tex", true), ("lock", false)] {
        fs::remove_file(root.join("version")).unwrap();
        let path = root.join(name);
        let before = fs::read(&path).unwrap_or_default();
        write(&path, b"years of work");
        let Err(StoreError::NotAStore { .. }) = Store::open(&root) else { panic!("{name}: opened") };
        if mine {
            fs::remove_file(&path).unwrap()
        } else {
            fs::write(&path, before).unwrap()
        }
        Store::open(&root).unwrap();
    }
}

#[test]
fn a_deleted_store_is_not_made_again_by_halves() {
    let (_dir, store) = store();
    let root = store.root().to_owned();
    let key = Digest::of(b"key");
    let object = store.put_bytes(b"x").unwrap();
    let writes: [(&str, &dyn Fn() -> bool); 5] = [
        ("bytes", &|| store.put_bytes(b"y").is_ok()),
        ("a checkpoint", &|| store.checkpoints(&key).save(1, 1.0, 2, |d| fs::write(d.join("s"), "s")).is_ok()),
        ("a record", &|| store.publish(&common::record(b"k", &[("out", object, true)], 1.0)).is_ok()),
        ("a work folder", &|| store.work_dir(&key).is_ok()),
        ("a pin", &|| store.pin("p", &key).is_ok()),
    ];
    for (what, write) in writes {
        let _ = fs::remove_dir_all(&root);
        assert!(!write(), "{what}");
        assert!(!root.exists(), "{what}: half a store");
    }
    assert!(matches!(store.work_dir(&key), Err(StoreError::Gone { .. })));
    assert!(matches!(store.still_there(), Err(StoreError::Gone { .. })));
    assert!(matches!(Store::reopen(&root), Err(StoreError::Gone { .. })));
    // A stage makes the folders of its output again.
    fs::create_dir_all(root.join("work").join(key.to_string()).join("outputs/lora")).unwrap();
    store.clear_remains(&key);
    assert!(!root.exists());
    // Another store in its place is another store.
    fs::create_dir_all(root.join("work").join(key.to_string())).unwrap();
    let fresh = Store::open(&root).unwrap();
    assert!(matches!(store.work_dir(&Digest::of(b"other")), Err(StoreError::Gone { .. })));
    store.clear_remains(&key);
    fresh.check(&fresh.put_bytes(b"y").unwrap()).unwrap();
}

#[test]
fn nobody_reads_in_the_store_what_they_could_not_read_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    assert_eq!(common::mode(store.root()), 0o700);
    // A folder that somebody made for several people stays theirs.
    let shared = dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o770)).unwrap();
    assert_eq!(common::mode(Store::open(&shared).unwrap().root()), 0o770);
    // What the mask of this process leaves.
    write(&dir.path().join("plain"), b"");
    let mask = common::mode(&dir.path().join("plain"));
    for (n, source) in [0o600, 0o640, 0o644, 0o400, 0o666].into_iter().enumerate() {
        for size in [9, (1 << 20) + 9] {
            let bytes = vec![n as u8 + 1; size];
            let tree = dir.path().join(format!("tree-{n}-{size}"));
            write(&tree.join("weights"), &bytes);
            fs::set_permissions(tree.join("weights"), fs::Permissions::from_mode(source)).unwrap();
            let object = store.put_path(&tree).unwrap();
            let kept = common::mode(&blob(&store, &Digest::of(&bytes)));
            assert_eq!(kept, 0o400 | source & 0o044 & mask, "{source:o}");
            store.place(&object, &dir.path().join(format!("out-{n}-{size}"))).unwrap();
            let given = common::mode(&dir.path().join(format!("out-{n}-{size}/weights")));
            assert_eq!((given & 0o600, given & 0o044), (0o600, source & 0o044 & mask), "{source:o}: {given:o}");
            // An archive is for those who may read all of it.
            let record = common::record(format!("{n}-{size}").as_bytes(), &[("out", object, true)], 1.0);
            store.publish(&record).unwrap();
            let tar = dir.path().join(format!("{n}-{size}.tar"));
            let files = BTreeMap::new();
            store.pack(&tar, &opdflow_cache::Contents { keys: &[record.key], lineages: &[], files: &files }).unwrap();
            let readers = source & 0o044 & mask;
            assert_eq!(common::mode(&tar), 0o600 | readers);
            let other = Store::open(&dir.path().join(format!("other-{n}-{size}"))).unwrap();
            other.take_in(&opdflow_cache::Archive::open(&tar).unwrap()).unwrap();
            assert_eq!(common::mode(&blob(&other, &Digest::of(&bytes))), 0o400 | readers);
        }
    }
}

#[test]
fn an_unwritable_place_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    for root in [file.join("store"), file.clone(), "/proc/store".into(), "/proc/self/a/b".into()] {
        let Err(e) = Store::open(&root) else { panic!("{} opened", root.display()) };
        assert!(matches!(e, StoreError::Unwritable { .. }), "{e:?}");
        assert!(e.to_string().contains("OPDFLOW_STORE"), "{e}");
    }
}

fn names() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-c.é \n]{1,3}", 1..4).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_tree_round_trips(
        files in proptest::collection::btree_map(names(), proptest::collection::vec(any::<u8>(), 0..40), 0..8)
    ) {
        let (dir, store) = store();
        let source = dir.path().join("source");
        fs::create_dir(&source).unwrap();
        let mut expected = BTreeMap::new();
        for (name, bytes) in files {
            let path = source.join(&name);
            let plain = name.split('/').all(|part| !matches!(part, "." | ".."));
            // A file where a folder is, or the other way round, is not a tree.
            if plain && fs::create_dir_all(path.parent().unwrap()).is_ok() && fs::write(&path, &bytes).is_ok() {
                expected.insert(name, bytes);
            }
        }
        let object = store.put_path(&source).unwrap();
        prop_assert!(store.present(&object));
        store.check(&object).unwrap();
        let dest = dir.path().join("dest");
        store.place(&object, &dest).unwrap();
        let entries = store.tree(&object.digest).unwrap();
        prop_assert_eq!(entries.len(), expected.len());
        for (name, bytes) in &expected {
            prop_assert_eq!(&fs::read(dest.join(name)).unwrap(), bytes);
        }
        prop_assert_eq!(store.put_path(&dest).unwrap(), object);
    }
}

#[test]
fn outputs_are_moved_in_and_copies_only_where_they_must_be() {
    let (dir, store) = store();
    let work = store.work_dir(&Digest::of(b"key")).unwrap();
    let big = vec![7; (1 << 20) + 1];
    write(&work.join("out/big"), &big);
    write(&work.join("out/small"), b"small");
    write(&work.join("out/linked"), &vec![8; (1 << 20) + 1]);
    fs::hard_link(work.join("out/linked"), dir.path().join("elsewhere")).unwrap();
    let object = store.take_path(&work.join("out")).unwrap();
    store.check(&object).unwrap();
    assert!(!work.join("out/big").exists(), "it was moved");
    assert!(work.join("out/linked").exists(), "another name would still lead to it");
    let mode = fs::metadata(blob(&store, &Digest::of(&big))).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
    // The same bytes again, from elsewhere: known, and left where they are.
    write(&work.join("again/big"), &big);
    write(&work.join("again/small"), b"small");
    write(&work.join("again/linked"), &vec![8; (1 << 20) + 1]);
    assert_eq!(store.take_path(&work.join("again")).unwrap(), object);
    assert_eq!(store.put_path(&work.join("again")).unwrap(), object);
}

#[test]
fn what_a_path_would_be_is_what_it_becomes() {
    let (dir, store) = store();
    write(&dir.path().join("tree/a/b"), b"1");
    write(&dir.path().join("tree/c"), b"22");
    for path in ["tree", "tree/c"] {
        let path = dir.path().join(path);
        assert_eq!(Object::of_path(&path).unwrap(), store.put_path(&path).unwrap());
    }
    assert!(Object::of_path(&dir.path().join("none")).is_err());
}
