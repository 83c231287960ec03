//! The fuzzers' targets of `fuzz/`, fed with seeded changes of whole inputs. `PROPTEST_CASES` says how many.
#![allow(missing_docs)]

#[path = "../fuzz/engine.rs"]
mod engine;

use opdflow_cache::{ActionRecord, Contents, Digest, Object, Output, RECORD_FORMAT, Store};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// One change: at a place (in parts of the whole), of a kind, with some bytes.
type Change = (f64, u8, Vec<u8>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    proptest::collection::vec((0.0..1.0, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..6)), 0..6)
}

fn changed(whole: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for (at, how, with) in changes {
        let at = (bytes.len() as f64 * at) as usize;
        match how % 6 {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, with.iter().copied())),
            2 => drop(bytes.drain(at..(at + with.len()).min(bytes.len()))),
            3 => bytes.extend_from_within(at..(at + 40).min(bytes.len())),
            _ => bytes.iter_mut().skip(at).zip(with).for_each(|(byte, other)| *byte ^= other & how),
        }
    }
    bytes
}

const RECIPE: &str = "opdflow: 1
name: fuzz
seed: 3
vars: {n: 8, list: [1, 2]}
defaults: {fake_train: {checkpoint_every: 3}}
stages:
  a: {uses: fake_source, with: {value: 4}}
  t:
    uses: fake_train
    matrix: {seed: \"${list}\", rate: [0.1, 0.5], exclude: [{seed: 2, rate: 0.5}], include: [{seed: 9, rate: 1.0}]}
    needs: {base: a.value}
    with: {iterations: \"${n}\", algorithm: {noisy: {rate: \"${matrix.rate}\", noise: 1e-3}}}
    seed: \"${matrix.seed}\"
  end: {uses: fake_report, needs: {parts: t.model}, with: {title: \"é ${n} $${x}\"}, resources: {cpus: 2}}
";

/// A record with a manifest of its own key, in a store, and an archive of it.
fn made() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    std::fs::create_dir_all(folder.path().join("out/b")).unwrap();
    std::fs::write(folder.path().join("out/a"), "1").unwrap();
    std::fs::write(folder.path().join("out/b/c"), "2").unwrap();
    let object: Object = store.put_path(&folder.path().join("out")).unwrap();
    let listing = store.read(&object.digest).unwrap();
    let manifest = serde_json::json!({"format": 1, "kind": "k", "semantics": 2, "params": {"a": [1, 0.5, null, true, "é"]},
        "inputs": {"x": Digest::of(b"x")}, "assets": {}, "seed": 4, "numerics": {"profile": "portable"}});
    let record = ActionRecord {
        format: RECORD_FORMAT,
        key: Digest::of(b"key"),
        lineage: Digest::of(b"lineage"),
        manifest,
        outputs: BTreeMap::from([("out".into(), Output { object, port_type: "lora".into(), semantic: true })]),
        seconds: 1.5,
        finished: "2026-11-23T05:53:00Z".into(),
        note: BTreeMap::new(),
    };
    store.publish(&record).unwrap();
    let files = BTreeMap::from([("run/recipe.yaml".to_owned(), RECIPE.as_bytes().to_vec())]);
    let path = folder.path().join("run.tar");
    store.pack(&path, &Contents { keys: &[record.key], lineages: &[], files: &files }).unwrap();
    let name = record.key.to_string();
    let kept = std::fs::read(store.root().join("actions").join(&name[..2]).join(format!("{name}.json"))).unwrap();
    (kept, listing, std::fs::read(path).unwrap())
}

#[test]
fn whole_inputs_are_taken() {
    engine::recipe(RECIPE.as_bytes());
    let (record, listing, archive) = made();
    engine::record(&record);
    engine::tree(&listing);
    engine::archive(&archive);
}

proptest! {
    #[test]
    fn recipes(changes in changes()) {
        engine::recipe(&changed(RECIPE.as_bytes(), &changes));
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        engine::recipe(&bytes);
        engine::manifest(&bytes);
    }

    #[test]
    fn manifests(changes in changes()) {
        let whole = br#"{"format":1,"kind":"k","semantics":2,"params":{"a":[1,0.5,null,1e99,-3]},"inputs":{},"assets":{},"seed":4}"#;
        engine::manifest(&changed(whole, &changes));
    }
}

proptest! {
    // Each case writes to the disk.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn records_trees_and_archives(changes in changes()) {
        let (record, listing, archive) = made();
        engine::record(&changed(&record, &changes));
        engine::tree(&changed(&listing, &changes));
        engine::archive(&changed(&archive, &changes));
    }
}
