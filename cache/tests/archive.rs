//! Archives that somebody made by hand: well formed, and wrong.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{record, store, write};
use opdflow_cache::{ActionRecord, Archive, Contents, Digest, Object, ObjectKind, Store, StoreError};
use serde_json::{Value, json};

/// The members of an archive, to be changed and put together again.
struct Made {
    index: Value,
    members: Vec<(String, Vec<u8>)>,
}

fn seal(value: &Value) -> Vec<u8> {
    let text = serde_json::to_string_pretty(value).unwrap();
    let body = format!("{}\n", text.strip_prefix('{').unwrap());
    format!("{{\n  \"check\": \"{}\",{body}", Digest::of(body.as_bytes())).into_bytes()
}

fn made(dir: &Path, store: &Store) -> Made {
    write(&dir.join("tree/a"), b"in a folder");
    write(&dir.join("tree/b/c"), b"deeper");
    let tree = store.put_path(&dir.join("tree")).unwrap();
    let one = record(b"one", &[("out", tree, true), ("log", store.put_bytes(b"log").unwrap(), false)], 1.0);
    store.publish(&one).unwrap();
    let lineage = Digest::of(b"unfinished");
    let fill = |d: &Path| fs::write(d.join("state"), "state").and_then(|()| fs::write(d.join("more"), "more"));
    store.checkpoints(&lineage).save(7, 3.0, 2, fill).unwrap();
    let files = BTreeMap::from([("run/recipe.yaml".to_owned(), b"recipe".to_vec())]);
    let path = dir.join("good.tar");
    let _ = fs::remove_file(&path);
    store.pack(&path, &Contents { keys: &[one.key], lineages: &[lineage], files: &files }).unwrap();
    let mut tar = tar::Archive::new(fs::File::open(&path).unwrap());
    let mut members = Vec::new();
    for member in tar.entries().unwrap() {
        let mut member = member.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut member, &mut bytes).unwrap();
        members.push((member.path().unwrap().to_str().unwrap().to_owned(), bytes));
    }
    let (_, index) = members.remove(0);
    let mut index: Value = serde_json::from_slice(&index).unwrap();
    index.as_object_mut().unwrap().remove("check");
    Made { index, members }
}

impl Made {
    fn write(&self, path: &Path) {
        let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
        let index = ("opdflow-archive.json".to_owned(), seal(&self.index));
        for (name, bytes) in std::iter::once(&index).chain(&self.members) {
            let mut header = tar::Header::new_ustar();
            // By hand: the library would not write every name.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            tar.append(&header, bytes.as_slice()).unwrap();
        }
        tar.finish().unwrap();
    }

    /// Changes the record, and what the index says of it.
    fn record(&mut self, change: impl Fn(&mut Value)) {
        let (name, bytes) = self.members.iter_mut().find(|(n, _)| n.starts_with("actions/")).unwrap();
        let mut value: Value = serde_json::from_slice(bytes).unwrap();
        value.as_object_mut().unwrap().remove("check");
        change(&mut value);
        *bytes = seal(&value);
        let key = name.strip_prefix("actions/").unwrap().strip_suffix(".json").unwrap();
        self.index["actions"][key] = json!(Digest::of(bytes));
    }

    /// Puts another listing of a folder in place of the one there is.
    fn listing(&mut self, listing: &str, size: u64) {
        let digest = Digest::of(listing.as_bytes());
        self.record(|r| {
            r["outputs"]["out"]["object"] = json!(Object { digest, kind: ObjectKind::Tree, size });
        });
        self.index["blobs"][digest.to_string()] = json!(listing.len());
        self.members.push((format!("blobs/{digest}"), listing.as_bytes().to_vec()));
    }

    fn remove(&mut self, name: &str) {
        self.members.retain(|(n, _)| n != name);
    }
}

type Change = fn(&mut Made);

/// Each is whole by its digests, and names what could not be kept.
const WRONG: [(&str, Change); 25] = [
    ("a cost of -1 seconds", |m| m.record(|r| r["seconds"] = json!(-1.0))),
    ("a format of the future", |m| m.record(|r| r["format"] = json!(9))),
    ("another key", |m| m.record(|r| r["key"] = json!(Digest::of(b"two")))),
    ("an output that is not there", |m| {
        m.record(|r| r["outputs"]["log"]["object"]["digest"] = json!(Digest::of(b"no")))
    }),
    ("an output of another size", |m| m.record(|r| r["outputs"]["log"]["object"]["size"] = json!(4))),
    ("a folder of another size", |m| m.record(|r| r["outputs"]["out"]["object"]["size"] = json!(4))),
    ("a file for a folder", |m| m.record(|r| r["outputs"]["log"]["object"]["kind"] = json!("tree"))),
    ("a record that is none", |m| m.record(|r| *r = json!({"x": 1}))),
    ("a folder whose file is not there", |m| {
        m.listing(&format!("opdflow tree 1\n{} 2 1 a\n", Digest::of(b"no")), 2);
    }),
    ("a folder that leads out", |m| m.listing(&format!("opdflow tree 1\n{} 3 4 ../a\n", Digest::of(b"log")), 3)),
    ("a folder of long names", |m| {
        m.listing(&format!("opdflow tree 1\n{} 3 300 {}\n", Digest::of(b"log"), "a".repeat(300)), 3);
    }),
    ("a folder with a file for a folder", |m| {
        let log = Digest::of(b"log");
        m.listing(&format!("opdflow tree 1\n{log} 3 1 a\n{log} 3 3 a/b\n"), 6);
    }),
    ("a checkpoint without files", |m| m.index["checkpoints"][0]["files"] = json!([])),
    ("a checkpoint before its time", |m| m.index["checkpoints"][0]["elapsed_seconds"] = json!(-3.0)),
    ("a checkpoint that leads out", |m| m.index["checkpoints"][0]["files"][0]["path"] = json!("../up")),
    ("a checkpoint of the root", |m| m.index["checkpoints"][0]["files"][0]["path"] = json!("/etc/x")),
    ("a checkpoint of one name twice", |m| {
        m.index["checkpoints"][0]["files"][1]["path"] = m.index["checkpoints"][0]["files"][0]["path"].clone();
    }),
    ("a checkpoint with a file for a folder", |m| m.index["checkpoints"][0]["files"][1]["path"] = json!("more/x")),
    ("a checkpoint of long names", |m| m.index["checkpoints"][0]["files"][1]["path"] = json!("x".repeat(256))),
    ("a checkpoint twice", |m| {
        let state = m.index["checkpoints"][0].clone();
        m.index["checkpoints"].as_array_mut().unwrap().push(state);
    }),
    ("a checkpoint whose file is not there", |m| {
        m.index["checkpoints"][0]["files"][0]["digest"] = json!(Digest::of(b"no"));
    }),
    ("a file that leads out", |m| {
        m.members.push(("files/../x".into(), b"recipe".to_vec()));
        m.index["files"]["../x"] = m.index["files"]["run/recipe.yaml"].clone();
    }),
    ("a file for a folder", |m| {
        m.members.push(("files/run".into(), b"recipe".to_vec()));
        m.index["files"]["run"] = m.index["files"]["run/recipe.yaml"].clone();
    }),
    ("a file that is not there", |m| m.remove("files/run/recipe.yaml")),
    ("a member that is not in the index", |m| m.members.push(("files/run/more".into(), b"x".to_vec()))),
];

#[test]
fn what_is_well_formed_and_wrong_leaves_nothing() {
    let (dir, from) = store();
    let good = made(dir.path(), &from);
    let path = dir.path().join("made.tar");
    good.write(&path);
    let to = Store::open(&dir.path().join("whole")).unwrap();
    let taken = to.take_in(&Archive::open(&path).unwrap()).unwrap();
    assert_eq!((taken.new.len(), taken.checkpoints), (1, 1), "put together again it is as good");
    for (name, change) in WRONG {
        let mut wrong = made(dir.path(), &Store::open(&dir.path().join(name)).unwrap());
        change(&mut wrong);
        wrong.write(&path);
        let opened = Archive::open(&path);
        let Err(StoreError::Archive { why, .. }) = opened else { panic!("{name}: {opened:?}") };
        assert!(!why.is_empty(), "{name}");
    }
    // What the caller finds wrong with a record counts as well.
    good.write(&path);
    let judged = Archive::open_with(&path, &mut |_: &ActionRecord| Err("not for us".to_owned()));
    assert!(judged.unwrap_err().to_string().contains("not for us"));
}

/// A file that is said to be big, and holds nothing.
fn sparse(path: &Path, header: &tar::Header, size: u64) {
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(512, 0);
    fs::write(path, bytes).unwrap();
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(512 + size + 1024).unwrap();
}

/// Bytes of this process that were in memory at the most.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn no_archive_takes_all_memory() {
    let (dir, from) = store();
    let path: PathBuf = dir.path().join("big.tar");
    let size = 3 << 30;
    let before = peak();
    for kind in [b'L', b'K', b'x', b'g', b'S', b'0', b'7'] {
        let mut header = tar::Header::new_gnu();
        header.set_path("opdflow-archive.json").unwrap();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size);
        header.set_cksum();
        sparse(&path, &header, size);
        assert!(matches!(Archive::open(&path), Err(StoreError::Archive { .. })), "{}", char::from(kind));
    }
    // Members of 100 MB, one after the other, come in and go out again without being kept.
    let mut big = made(dir.path(), &from);
    for n in 0..4_u8 {
        let bytes = vec![n; 100 << 20];
        let name = format!("run/big-{n}");
        big.index["files"][&name] = json!([Digest::of(&bytes), bytes.len()]);
        big.members.push((format!("files/{name}"), bytes));
    }
    big.write(&path);
    drop(big);
    let made = peak();
    let archive = Archive::open(&path).unwrap();
    let mut total = 0;
    archive
        .each_file(&mut |_, from| {
            total += std::io::copy(from, &mut std::io::sink()).unwrap();
            Ok(())
        })
        .unwrap();
    assert_eq!(total, (400 << 20) + 6);
    assert!(peak() - made < 80 << 20, "{} more than {made}", peak() - made);
    assert!(before < 1 << 30);
}

#[test]
fn a_long_name_is_a_name() {
    let (dir, store) = store();
    let name = format!("{}/logs/{}.log", "r".repeat(120), "s".repeat(115));
    let files = BTreeMap::from([(name.clone(), b"log".to_vec())]);
    let path = dir.path().join("long.tar");
    store.pack(&path, &Contents { keys: &[], lineages: &[], files: &files }).unwrap();
    let archive = Archive::open(&path).unwrap();
    assert_eq!(archive.files().collect::<Vec<_>>(), [name]);
}

#[test]
fn an_archive_is_not_written_into_the_store_and_leaves_nothing_beside_it() {
    let (dir, store) = store();
    let files = BTreeMap::new();
    let nothing = Contents { keys: &[], lineages: &[], files: &files };
    let refused = store.pack(&store.root().join("blobs/run.tar"), &nothing);
    assert!(matches!(refused, Err(StoreError::Protected { .. })), "{refused:?}");
    fs::write(dir.path().join(".opdflow-part-Ab3xyz"), "what a kill left").unwrap();
    store.pack(&dir.path().join("run.tar"), &nothing).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}
