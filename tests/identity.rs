//! Which artefact some bytes are. A configuration that is equal in many adapters says nothing; weights and whole folders do.
#![allow(missing_docs)]

use opdflow::plan::identity::Identity;
use opdflow::plan::lineage::{Lineage, Origin};
use opdflow_cache::{ActionRecord, Digest, Output, RECORD_FORMAT, Store, TreeEntry};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

const CONFIG: &str = "{\"r\": 32}";

/// A store with the candidates and the last adapter of two teachers, the choice of the best of one, and two bases that share
/// a text encoder. All adapters have the same configuration.
struct Space {
    dir: tempfile::TempDir,
    store: Store,
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let at = root.join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, text).unwrap();
    }
}

impl Space {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let space = Self { dir, store };
        for (hour, teacher) in ["geneval", "ocr"].iter().enumerate() {
            let (early, late) = (format!("{teacher} 20"), format!("{teacher} 40"));
            let candidates = [
                ("step-000020/adapter_config.json", CONFIG),
                ("step-000020/adapter_model.safetensors", early.as_str()),
                ("step-000040/adapter_config.json", CONFIG),
                ("step-000040/adapter_model.safetensors", late.as_str()),
            ];
            let last = [("adapter_config.json", CONFIG), ("adapter_model.safetensors", late.as_str())];
            let stage = format!("{teacher}_teacher");
            space.publish(&stage, hour, &[("candidates", &candidates), ("lora", &last)]);
        }
        let best = [("adapter_config.json", CONFIG), ("adapter_model.safetensors", "ocr 20")];
        space.publish("ocr_best", 2, &[("lora", &best)]);
        for (hour, base) in [(3, "one"), (4, "two")] {
            let model = [
                ("scheduler/scheduler_config.json", "{\"shift\": 3}"),
                ("text_encoder/config.json", "{}"),
                ("text_encoder/model.safetensors", "the same encoder"),
                ("transformer/config.json", "{}"),
                ("transformer/model.safetensors", base),
            ];
            space.publish(base, hour, &[("model", &model)]);
        }
        space
    }

    fn publish(&self, stage: &str, hour: usize, outputs: &[(&str, &[(&str, &str)])]) {
        let mut made = BTreeMap::new();
        for (port, files) in outputs {
            let at = self.dir.path().join("made").join(stage).join(port);
            write(&at, files);
            let object = self.store.put_path(&at).unwrap();
            made.insert((*port).to_owned(), Output { object, port_type: (*port).to_owned(), semantic: true });
        }
        let key = Digest::of(stage.as_bytes());
        let record = ActionRecord {
            format: RECORD_FORMAT,
            key,
            lineage: key,
            manifest: json!({"kind": "x", "inputs": {}}),
            outputs: made,
            seconds: 1.0,
            finished: format!("2026-01-01T{hour:02}:00:00Z"),
            note: [("stage".to_owned(), stage.to_owned())].into(),
        };
        self.store.publish(&record).unwrap();
    }

    fn words(&self, lineage: &Lineage<'_>, origins: &[Origin]) -> Vec<String> {
        let word = |o: &Origin| {
            let stage = &lineage.record(&o.key).unwrap().note["stage"];
            format!("{stage}.{}{}", o.port, o.inside.as_ref().map_or(String::new(), |p| format!("/{p}")))
        };
        origins.iter().map(word).collect()
    }

    /// What a folder of these files is: `=` and the same, `?` and those that differ, or nothing.
    fn folder(&self, files: &[(&str, &str)]) -> (char, Vec<String>) {
        let at = tempfile::tempdir_in(self.dir.path()).unwrap();
        write(at.path(), files);
        let lineage = Lineage::of(&self.store);
        self.told(&lineage, lineage.of_folder(&TreeEntry::of_folder(at.path()).unwrap()))
    }

    fn file(&self, name: &str, text: &str) -> (char, Vec<String>) {
        let lineage = Lineage::of(&self.store);
        self.told(&lineage, lineage.of_file(&Digest::of(text.as_bytes()), name))
    }

    fn told(&self, lineage: &Lineage<'_>, identity: Identity) -> (char, Vec<String>) {
        match identity {
            Identity::Unknown => (' ', Vec::new()),
            Identity::Same(origins) => ('=', self.words(lineage, &origins)),
            Identity::Several(origins) => ('?', self.words(lineage, &origins)),
        }
    }
}

fn adapter(weights: &str) -> [(&'static str, &str); 2] {
    [("adapter_config.json", CONFIG), ("adapter_model.safetensors", weights)]
}

#[test]
fn a_folder_inside_a_result_is_known_by_its_whole() {
    let space = Space::new();
    let both = ["ocr_best.lora", "ocr_teacher.candidates/step-000020"].map(str::to_owned);
    assert_eq!(space.folder(&adapter("ocr 20")), ('=', both.into()), "a whole output comes first");
    assert_eq!(space.folder(&adapter("geneval 20")), ('=', vec!["geneval_teacher.candidates/step-000020".to_owned()]));
    let both = ["ocr_teacher.lora", "ocr_teacher.candidates/step-000040"].map(str::to_owned);
    assert_eq!(space.folder(&adapter("ocr 40")), ('=', both.into()));
    // Both bases have this part.
    let encoder = [("config.json", "{}"), ("model.safetensors", "the same encoder")];
    assert_eq!(
        space.folder(&encoder),
        ('=', ["one.model/text_encoder", "two.model/text_encoder"].map(str::to_owned).into())
    );
}

#[test]
fn what_was_added_or_configured_does_not_hide_the_weights() {
    let space = Space::new();
    let more = [&adapter("geneval 20")[..], &[("README.md", "mine")]].concat();
    assert_eq!(space.folder(&more), ('=', vec!["geneval_teacher.candidates/step-000020".to_owned()]));
    let other = [("adapter_config.json", "{\"r\": 32, \"mine\": 1}"), ("adapter_model.safetensors", "ocr 40")];
    let fits = ["ocr_teacher.candidates/step-000040", "ocr_teacher.lora"].map(str::to_owned);
    assert_eq!(space.folder(&other), ('=', fits.clone().into()));
    assert_eq!(space.folder(&[("renamed.safetensors", "ocr 40")]), ('=', fits.into()));
}

#[test]
fn other_weights_are_of_nobody_whatever_lies_beside_them() {
    let space = Space::new();
    assert_eq!(space.folder(&adapter("of another program")), (' ', vec![]));
    assert_eq!(space.folder(&[("adapter_config.json", CONFIG)]), (' ', vec![]));
    // A base with a transformer of its own is not the base that it was made from.
    let tuned = [
        ("scheduler/scheduler_config.json", "{\"shift\": 3}"),
        ("text_encoder/config.json", "{}"),
        ("text_encoder/model.safetensors", "the same encoder"),
        ("transformer/config.json", "{}"),
        ("transformer/model.safetensors", "tuned"),
    ];
    assert_eq!(space.folder(&tuned), (' ', vec![]));
    assert_eq!(space.file("mine.txt", "nothing that a stage made"), (' ', vec![]));
}

#[test]
fn a_file_that_is_equal_in_many_names_them_all_and_chooses_none() {
    let space = Space::new();
    let (sign, found) = space.file("adapter_config.json", CONFIG);
    assert_eq!(sign, '?');
    assert_eq!(found.len(), 7, "{found:?}");
    assert!(found.contains(&"ocr_best.lora/adapter_config.json".to_owned()), "{found:?}");
    let weights = space.file("adapter_model.safetensors", "geneval 20");
    assert_eq!(weights, ('=', vec!["geneval_teacher.candidates/step-000020/adapter_model.safetensors".to_owned()]));
    // The same weights in three places are the same weights; what was finished first stands first.
    let (sign, found) = space.file("any.safetensors", "ocr 20");
    assert_eq!((sign, found.len()), ('=', 2), "{found:?}");
    assert!(found[0].starts_with("ocr_teacher.candidates/"), "{found:?}");
    // A configuration that stands in one result alone tells it.
    assert_eq!(space.file("config.json", "{}").0, '?');
}
