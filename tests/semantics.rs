//! Whoever changes what a stage computes must raise a version, or stored results of the old code would pass for results of
//! the new. No test can tell whether a change matters; this one makes sure that somebody has thought of it. Until then the
//! digest of the changed sources is in the keys, so that nobody gets old numbers.
//!
//! `stages/kinds/code.txt` holds, for each part of the code and for the own files of each kind, a version and a digest of
//! the source without comments, spacing and tests. When a digest differs: raise the part's version in that file if it now
//! gives other results (of a kind's own files, its `semantics`), then write the digests anew with
//! `OPDFLOW_GOLDEN=write cargo test --test semantics`. That keeps all versions, and copes with a file that a merge has left
//! in disorder.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[path = "../stages/kinds/build/parts.rs"]
mod parts;
#[path = "../stages/kinds/build/sources.rs"]
mod sources;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn stages() -> PathBuf {
    root().join("stages")
}

const HEAD: &str = "# Versions of the code in keys, and digests of the sources when somebody last thought about them.
# tests/semantics.rs says what to do when a source has changed.
";

/// The table as it should be: versions as committed (a kind's is its `semantics`), digests of the sources as they are.
fn table() -> String {
    let committed = std::fs::read_to_string(stages().join("kinds/code.txt")).unwrap_or_default();
    let committed = sources::table(&committed);
    let registry = opdflow_kinds::registry();
    let mut text = HEAD.to_owned();
    for (name, listed) in parts::SHARED {
        let version = committed.get(*name).map_or(1, |known| known.version);
        text += &format!("{name} {version} {}\n", sources::digest(&stages(), listed).unwrap());
    }
    for (name, listed) in parts::KINDS {
        let kind = registry.get(name).unwrap_or_else(|| panic!("there is no kind `{name}`")).describe();
        text += &format!("{name} {} {}\n", kind.semantics, sources::digest(&stages(), listed).unwrap());
    }
    text
}

#[test]
fn a_changed_source_raises_a_version_or_somebody_says_that_it_need_not() {
    let text = table();
    let path = stages().join("kinds/code.txt");
    if std::env::var_os("OPDFLOW_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let changed: Vec<&str> = text.lines().filter(|l| !kept.lines().any(|k| k == *l)).collect();
    assert!(
        changed.is_empty() && text.lines().count() == kept.lines().count(),
        "the source of what stages compute has changed:\n  {}\nUntil you have thought of it, everything that uses these parts \
         is computed anew. If a part now gives other results for the same inputs, raise its version in stages/kinds/code.txt \
         (of a kind's own files, its `semantics`). Then: OPDFLOW_GOLDEN=write cargo test --test semantics",
        changed.join("\n  ")
    );
}

/// What the program has of itself is what its sources are: the build has taken the digests of these very files.
#[test]
fn the_build_knows_its_sources() {
    let built = opdflow_kinds::code::parts();
    for (name, listed) in parts::SHARED.iter().chain(parts::KINDS) {
        let part = built.iter().find(|p| p.name == *name).unwrap_or_else(|| panic!("no part `{name}`"));
        assert_eq!(part.built, sources::digest(&stages(), listed).as_deref(), "{name}");
    }
}

#[test]
fn every_source_is_in_one_part_or_named_as_of_no_effect() {
    let mut seen: BTreeMap<PathBuf, Vec<&str>> = BTreeMap::new();
    for (name, listed) in [parts::SHARED, parts::KINDS, parts::OUTSIDE].concat() {
        for entry in listed {
            let found = sources::files(&stages(), &[entry]);
            assert!(
                !found.is_empty(),
                "`{name}` lists stages/{entry}, which is not there (stages/kinds/build/parts.rs)"
            );
            found.into_iter().for_each(|file| seen.entry(file).or_default().push(name));
        }
    }
    let all = parts::CRATES.map(|c| format!("{c}/src"));
    for file in sources::files(&stages(), &all.each_ref().map(String::as_str)) {
        let at = file.strip_prefix(root()).unwrap().display().to_string();
        let of = seen.remove(&file).unwrap_or_default();
        assert!(
            !of.is_empty(),
            "{at} is in no part of the code, so that its digest is in every key: give it one in stages/kinds/build/parts.rs, \
             then OPDFLOW_GOLDEN=write cargo test --test semantics"
        );
        // What two kinds share may be both kinds' own.
        let kinds = of.iter().all(|name| parts::KINDS.iter().any(|(kind, _)| kind == name));
        assert!(of.len() == 1 || kinds, "{at} is in {}", of.join(" and "));
    }
    let kinds: BTreeSet<&str> = parts::KINDS.iter().map(|(name, _)| *name).collect();
    assert!(
        opdflow_kinds::registry().names().eq(kinds),
        "stages/kinds/build/parts.rs lists other kinds than there are"
    );
}

/// The part of a file of the crates that stages compute with.
fn part_of(file: &Path) -> Option<&'static str> {
    let holds = |part: &&parts::CodePart| sources::files(&stages(), part.1).iter().any(|f| f == file);
    parts::SHARED.iter().chain(parts::KINDS).find(holds).map(|(name, _)| *name)
}

/// The paths in what stands behind `word::`: one, or those of a list in braces, lists within it included.
fn paths(rest: &str) -> Vec<Vec<String>> {
    let Some(inner) = rest.strip_prefix('{') else {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let more = rest[name.len()..].strip_prefix("::").map(paths).unwrap_or_default();
        let with = |tail: Vec<String>| std::iter::once(name.clone()).chain(tail).collect();
        return if more.is_empty() { vec![vec![name]] } else { more.into_iter().map(with).collect() };
    };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.extend(paths(inner[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
        if c == '}' && depth == 0 && start == at + 1 {
            break;
        }
    }
    found
}

/// The files that the code of a file names, by `crate::module` and `opdflow_CRATE::module`, through folders of modules.
fn named(file: &Path) -> BTreeSet<PathBuf> {
    let own = file.strip_prefix(stages()).unwrap().components().next().unwrap().as_os_str().to_string_lossy();
    let own = format!("{own}/src");
    let code = sources::code(&std::fs::read_to_string(file).unwrap());
    let mut found = BTreeSet::new();
    let crates = [
        ("crate", own.as_str()),
        ("opdflow_kinds", "kinds/src"),
        // The crates with tensors give on what `spec` has in modules of the same names.
        ("opdflow_spec", "spec/src"),
        ("opdflow_spec", "spec/src/training"),
        ("opdflow_models", "models/src"),
        ("opdflow_models", "spec/src"),
        ("opdflow_training", "training/src"),
        ("opdflow_training", "spec/src/training"),
        ("opdflow_miniature", "miniature/src"),
    ];
    for (word, krate) in crates {
        for (at, _) in code.match_indices(&format!("{word}::")) {
            for path in paths(&code[at + word.len() + 2..]) {
                let mut at = stages().join(krate);
                for name in &path {
                    let file = at.join(format!("{name}.rs"));
                    if file.is_file() {
                        found.insert(file);
                        break;
                    }
                    if name.is_empty() || !at.join(name).is_dir() {
                        break;
                    }
                    at.push(name);
                }
                // A folder that is one module: an item of it was named.
                let folder = at.strip_prefix(stages()).unwrap().to_string_lossy().into_owned();
                let inside = path.iter().rev().any(|name| at.join(format!("{name}.rs")).is_file());
                if folder != krate && !inside {
                    found.extend(sources::files(&stages(), &[&folder]));
                }
            }
        }
    }
    found
}

/// Parts whose files are followed no further: what they name they know by its form alone, for sizes and for reading.
const ENDS: [&str; 2] = ["stages.files", "stages.tables"];

/// What a kind names and does not compute with: the tasks of a distillation have no reward.
const NAMED_ONLY: [(&str, &str); 4] = [
    ("reward_model", "judging"),
    ("served_reward", "judging"),
    ("distill", "judging"),
    ("gradient_variance", "judging"),
];

/// A stage's key has the versions of all that its own files name, and of all that these name in turn within their crate.
/// What hangs on parameters (a reward, an objective) is left to the tests of the kinds, and what a kind takes of another's
/// own files to their authors.
#[test]
fn a_stage_has_the_versions_of_what_its_code_names() {
    let by_choice = |part: &str| {
        let chosen = ["grpo", "nft", "opd", "ppo", "dance", "sft", "dmd"].map(|m| format!("training.{m}"));
        let networks = part.starts_with("reward_models.") || part == "judging.held_out" || part == "served";
        part.starts_with("rewards.") || networks || chosen.iter().any(|c| c == part)
    };
    for (kind, listed) in parts::KINDS {
        let stated: BTreeSet<String> = used(kind).into_iter().collect();
        let mut open = sources::files(&stages(), listed);
        let own = open.clone();
        let mut seen: BTreeSet<PathBuf> = open.iter().cloned().collect();
        while let Some(file) = open.pop() {
            let part = if own.contains(&file) { Some(*kind) } else { part_of(&file) };
            let Some(part) = part.filter(|p| !NAMED_ONLY.contains(&(kind, p))) else { continue };
            let foreign = part != *kind && parts::KINDS.iter().any(|(k, _)| *k == part);
            assert!(
                part == *kind || foreign || by_choice(part) || stated.contains(part),
                "`{kind}` computes with {}, but does not have `{part}` in `Stage::code`",
                file.display()
            );
            // What the other crates' files name, they bring themselves.
            let ours = ["kinds", "worker"].iter().any(|own| file.starts_with(stages().join(own)));
            if ours && !foreign && !ENDS.contains(&part) {
                open.extend(named(&file).into_iter().filter(|f| seen.insert(f.clone())));
            }
        }
    }
}

/// The parts that a stage of this kind has in its key, whatever its parameters.
fn used(kind: &str) -> Vec<String> {
    let registry = opdflow_kinds::registry();
    let ports = opdflow_api::Ports::from_iter([("prompts.ocr".to_owned(), "prompts.train".to_owned())]);
    let with = match kind {
        "train_teacher" => {
            serde_json::json!({"algorithm": {"diffusion_nft": {}}, "reward": {"ocr": 1.0}, "iterations": 1})
        }
        "distill" => serde_json::json!({"rounds": 1}),
        "select_checkpoint" => serde_json::json!({"maximize": "ocr"}),
        "base_model" => serde_json::json!({"source": "bundled:mini"}),
        "import_lora" => serde_json::json!({"source": "lora"}),
        "reward_model" => serde_json::json!({"reward": "geneval", "files": {"detector": "bundled:shapes"}}),
        "prompts" => serde_json::json!({"task": "ocr"}),
        "gradient_variance" => serde_json::json!({"objectives": {"kl": {"closed_form_kl": {}}}, "noise_levels": [0.7]}),
        "merge_loras" => serde_json::json!({"how": "product"}),
        "table" => serde_json::json!({"rows": [{"scores": "a", "title": "a"}]}),
        "figure" => serde_json::json!({"lines": [{"title": "a", "curves": ["a"]}]}),
        "note" => serde_json::json!({"text": "words"}),
        "served_reward" => {
            serde_json::json!({"reward": "judge", "protocol": {"opdflow": {"digest": "d"}}})
        }
        _ => serde_json::json!({}),
    };
    let kind = registry.get(kind).unwrap();
    let params = kind.normalise(&with).unwrap_or_else(|faults| panic!("{with}: {faults:?}"));
    kind.code(&params, &ports).unwrap().into_keys().collect()
}

/// Whoever edits a reward and runs at once gets new numbers: the changed digest is in the key of what it judges, and of
/// nothing else.
#[test]
fn an_edited_reward_is_in_the_keys_of_what_it_judges() {
    let folder = tempfile::tempdir().unwrap();
    let place = |text: &str| {
        let at = folder.path().join("rewards/src/ocr");
        std::fs::create_dir_all(&at).unwrap();
        std::fs::write(at.join("mod.rs"), text).unwrap();
    };
    place("fn score() -> f64 {\n    1.0\n}\n");
    let of = |listed: &[&str]| sources::digest(folder.path(), listed).unwrap();
    let (ocr, looks) = (of(&["rewards/src/ocr"]), of(&["rewards/src/looks.rs"]));
    place("/// The score.\nfn score() -> f64 { 1.0 } // of a text\n");
    assert_eq!(of(&["rewards/src/ocr"]), ocr, "words and spacing change nothing");
    place("fn score() -> f64 {\n    0.5\n}\n");
    assert_ne!(of(&["rewards/src/ocr"]), ocr);
    assert_eq!(of(&["rewards/src/looks.rs"]), looks);
    assert_eq!(sources::digest(folder.path(), &["reward_models/src/clip"]), None, "a crate that is not there");
    // Which kinds that concerns.
    let registry = opdflow_kinds::registry();
    let teacher = registry.get("train_teacher").unwrap();
    let uses = |reward: &str, part: &str| {
        let with = serde_json::json!({"algorithm": {"grpo_guard": {}}, "reward": {reward: 1.0}, "iterations": 1});
        teacher.code(&teacher.normalise(&with).unwrap(), &opdflow_api::Ports::default()).unwrap().contains_key(part)
    };
    assert!(uses("ocr", "rewards.ocr") && !uses("geneval", "rewards.ocr"));
    assert!(uses("geneval", "rewards.geneval") && uses("geneval.strict", "rewards.geneval"));
    assert!(uses("ocr", "training.grpo") && !uses("ocr", "training.nft"));
}

#[test]
fn code_is_told_from_comments_texts_and_tests() {
    let plain = sources::code("fn a() {\n    b();\n}\n");
    assert_eq!(
        plain,
        sources::code(
            "// why\nfn a() {\n\n  /* x /* y */ z */ b();\n}\n#[cfg(test)]\nmod tests {\n    fn c() { '{'; \"}\"; }\n}\n"
        )
    );
    assert_ne!(plain, sources::code("fn a() {\n    c();\n}\n"));
    // What looks like a comment in a text is text, and spacing there counts.
    for (one, other) in [
        ("x(\"http://a\")", "x(\"http://b\")"),
        ("x(\"a\n// b\")", "x(\"a\n// c\")"),
        ("x(r#\"a \" // b\"#)", "x(r#\"a \" // c\"#)"),
        ("x('\"', \"// a\")", "x('\"', \"// b\")"),
        ("x(\"a  b\")", "x(\"a b\")"),
        ("fn f<'a>(x: &'a str) -> u8 { 1 }", "fn f<'a>(x: &'a str) -> u8 { 2 }"),
        ("mod tests { a(); }", "mod tests { b(); }"),
        // Behind a module of tests there may be more.
        ("#[cfg(test)]\nmod tests { a(); }\nfn c() {}", "#[cfg(test)]\nmod tests { a(); }\nfn d() {}"),
    ] {
        assert_ne!(sources::code(one), sources::code(other), "{one}");
    }
    assert_eq!(sources::code("#[cfg(test)]\npub(super) mod tests { a(); }\nfn c() {}"), "fn c() {}");
}

#[test]
fn a_table_that_a_merge_has_left_in_disorder_is_read() {
    let text =
        "# words\n<<<<<<< ours\nrewards.ocr 2 aaaa\n=======\nrewards.ocr 3 bbbb\n>>>>>>> theirs\nmodels.vae 1 cccc\n";
    let table = sources::table(text);
    assert_eq!(table["rewards.ocr"], sources::Committed { version: 3, digest: "bbbb".into() });
    assert_eq!(table.keys().collect::<Vec<_>>(), ["models.vae", "rewards.ocr"]);
}
