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
