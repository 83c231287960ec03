//! What goes in comes out, and only that.

use std::fs;
use std::path::Path;

use opdflow_cache::{Digest, Object, ObjectKind, Store, StoreError};
use proptest::prelude::*;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn bytes_round_trip() {
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
}
