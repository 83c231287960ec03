//! What may be thrown at the engine and the store: any bytes must end in a value or an error. The fuzzers of this folder
//! and `tests/fuzz.rs` call these.

use opdflow::plan::manifest::Bytes;
use opdflow::plan::{NumericFacts, Plan, key, manifest};
use opdflow::recipe::{self, Overrides};
use opdflow_api::{Registry, with_fakes};
use opdflow_cache::{Archive, Digest, Store};
use std::path::Path;

/// A recipe: read, and planned or refused with all its mistakes drawn.
pub fn recipe(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    match recipe::parse(Path::new("fuzz.yaml"), text, &with_fakes(Registry::new()), &Overrides::default()) {
        Ok(recipe) => {
            if let Ok(plan) = Plan::new(recipe, NumericFacts::default()) {
                assert!(plan.stages.len() == plan.recipe.stages.len(), "a stage was lost");
            }
        }
        Err(found) => {
            assert!(!found.render(false).is_empty() && found.to_json().is_object());
        }
    }
}

/// A manifest as a record keeps it: of what is read, the key is that of what was read.
pub fn manifest(bytes: &[u8]) {
    let Ok(kept) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let mut walked = Bytes::default();
    let known = manifest::replay(&kept, &mut walked).is_some();
    assert_eq!(known, key::of_manifest(&kept).is_some());
}

/// The file of an action record.
pub fn record(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path()).expect("a store");
    let key = Digest::of(b"key");
    let name = key.to_string();
    let path = folder.path().join("actions").join(&name[..2]).join(format!("{name}.json"));
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, bytes).expect("a file");
    let read = store.action(&key).expect("damage is no error");
    assert!(read.is_none_or(|r| r.key == key));
    // Whatever it was, nothing is lost: it is used, left, or moved aside.
    assert!(path.exists() || std::fs::read_dir(folder.path().join("damaged")).is_ok_and(|mut d| d.next().is_some()));
}

/// The listing of a folder, as a blob of the store.
pub fn tree(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path()).expect("a store");
    let object = store.put_bytes(bytes).expect("any bytes can be stored");
    for entry in store.tree(&object.digest).unwrap_or_default() {
        assert!(!entry.path.starts_with('/') && !entry.path.split('/').any(|name| name == ".."), "{}", entry.path);
    }
}

/// An archive of a run.
pub fn archive(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("run.tar");
    std::fs::write(&path, bytes).expect("a file");
    let Ok(archive) = Archive::open(&path) else { return };
    let store = Store::open(&folder.path().join("store")).expect("a store");
    store.take_in(&archive).expect("what was found whole can be taken in");
}
