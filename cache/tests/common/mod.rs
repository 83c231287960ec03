//! What several test files need.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use opdflow_cache::{ActionRecord, Digest, Object, Output, RECORD_FORMAT, Store};

pub fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Where the blob lies.
pub fn blob(store: &Store, digest: &Digest) -> PathBuf {
    let text = digest.to_string();
    store.root().join("blobs").join(&text[..2]).join(&text[2..])
}

pub fn action_file(store: &Store, key: &Digest) -> PathBuf {
    let text = key.to_string();
    store.root().join("actions").join(&text[..2]).join(format!("{text}.json"))
}

/// Overwrites a read-only file in place, as a failing disk would.
pub fn damage(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

pub fn record(key: &[u8], outputs: &[(&str, Object, bool)], seconds: f64) -> ActionRecord {
    let output = |(port, object, semantic): &(&str, Object, bool)| {
        let port_type = "file".to_owned();
        ((*port).to_owned(), Output { object: *object, port_type, semantic: *semantic })
    };
    ActionRecord {
        format: RECORD_FORMAT,
        key: Digest::of(key),
        lineage: Digest::of(b"lineage"),
        manifest: serde_json::json!({"kind": "toy", "rate": 0.1, "steps": 40}),
        outputs: outputs.iter().map(output).collect::<BTreeMap<_, _>>(),
        seconds,
        finished: opdflow_cache::utc_now(),
        note: BTreeMap::from([("host".to_owned(), "here".to_owned())]),
    }
}

/// Every file and folder below one.
pub fn files(dir: &Path) -> std::collections::BTreeSet<PathBuf> {
    let mut found = std::collections::BTreeSet::new();
    for path in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(files(&path));
        }
        found.insert(path);
    }
    found
}

pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}
