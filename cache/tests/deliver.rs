//! Outputs that are put over what lies there.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{store, write};
use opdflow_cache::{Object, Store, StoreError};

fn tree(store: &Store, at: &Path, files: &[(&str, &str)]) -> Object {
    let _ = fs::remove_dir_all(at);
    for (name, text) in files {
        write(&at.join(name), text.as_bytes());
    }
    store.put_path(at).unwrap()
}

#[test]
fn a_folder_is_replaced_only_if_all_in_it_was_written_there() {
    let (dir, store) = store();
    let source = dir.path().join("source");
    let old = tree(&store, &source, &[("config.json", "1"), ("weights", "old"), ("step-1/weights", "x")]);
    let new = tree(&store, &source, &[("config.json", "1"), ("weights", "new"), ("step-2/weights", "y")]);
    let dest = dir.path().join("student");
    store.deliver(&old, &dest, false).unwrap();
    assert!(matches!(store.deliver(&new, &dest, false), Err(StoreError::Exists { .. })));
    store.deliver(&new, &dest, true).unwrap();
    assert_eq!(store.put_path(&dest).unwrap(), new, "nothing of the old one is left");

    type Mine = fn(&Path);
    let mine: [(&str, Mine); 6] = [
        ("README.md", |d| write(&d.join("README.md"), b"my model card")),
        ("weights", |d| write(&d.join("weights"), b"my")),
        ("weights", |d| write(&d.join("weights"), b"nem")),
        ("step-2/notes/1", |d| write(&d.join("step-2/notes/1"), b"")),
        ("empty", |d| fs::create_dir(d.join("empty")).unwrap()),
        ("link", |d| symlink("weights", d.join("link")).unwrap()),
    ];
    for (name, add) in mine {
        add(&dest);
        let before = common::files(&dest);
        let Err(StoreError::Foreign { found, .. }) = store.deliver(&old, &dest, true) else { panic!("{name}: lost") };
        assert_eq!(found, [name]);
        assert_eq!(common::files(&dest), before);
        fs::remove_dir_all(&dest).unwrap();
        store.deliver(&new, &dest, true).unwrap();
    }
    // The same bytes elsewhere, such as the user's own folder that was taken in, were not written there by us.
    let own = dir.path().join("own");
    tree(&store, &own, &[("config.json", "1"), ("weights", "old")]);
    assert!(matches!(store.deliver(&new, &own, true), Err(StoreError::Foreign { .. })));
    // What is the same in the new one may be replaced by it.
    tree(&store, &own, &[("config.json", "1")]);
    store.deliver(&new, &own, true).unwrap();
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(store.warnings().is_empty());
}

#[test]
fn stores_homes_links_and_devices_are_not_replaced() {
    let (dir, store) = store();
    let folder = tree(&store, &dir.path().join("source"), &[("a", "1")]);
    let file = store.put_bytes(b"2").unwrap();
    let before = common::files(store.root());
    let link = dir.path().join("link");
    symlink(store.root(), &link).unwrap();
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    let mut places = vec![
        store.root().to_owned(),
        store.root().join("blobs"),
        store.root().join("blobs/new"),
        store.root().join("../store/."),
        dir.path().to_owned(),
        link.clone(),
        link.join("work"),
        "/".into(),
        ".".into(),
        "..".into(),
        "src/..".into(),
    ];
    places.extend(home.clone());
    places.extend(home.and_then(|h| h.parent().map(Path::to_owned)));
    for place in places.into_iter().filter(|p| p.exists() || p.parent().is_some_and(Path::exists)) {
        for object in [&folder, &file] {
            let refused = store.deliver(object, &place, true);
            assert!(matches!(refused, Err(StoreError::Protected { .. })), "{}: {refused:?}", place.display());
        }
    }
    assert_eq!(common::files(store.root()), before);
    // Links, devices, and one kind of thing for the other.
    let target = dir.path().join("target");
    write(&target, b"mine");
    fs::remove_file(&link).unwrap();
    symlink(&target, &link).unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    for (object, place) in [
        (&file, link.clone()),
        (&folder, link),
        (&file, "/dev/null".into()),
        (&folder, target.clone()),
        (&file, dir.path().join("folder")),
    ] {
        let refused = store.deliver(object, &place, true);
        assert!(matches!(refused, Err(StoreError::Protected { .. })), "{}: {refused:?}", place.display());
    }
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    store.deliver(&file, &target, true).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"2");
}
