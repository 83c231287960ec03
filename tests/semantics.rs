//! Whoever changes what a stage kind computes must raise its `semantics`, or stored results of the old code would pass for
//! results of the new. No test can tell whether a change matters; this one makes sure that somebody has thought of it.
//!
//! `tests/golden/sources.txt` holds, for each kind and for each crate that the kinds compute with, a digest of the source
//! without comments, blank lines and tests. When it differs: raise `semantics` of the kinds concerned if they now give other
//! bytes, then write the file anew with `OPDFLOW_GOLDEN=write cargo test --test semantics`.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use opdflow_cache::Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The code alone. A file's tests stand at its end.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn digest<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> String {
    let all: Vec<String> =
        paths.into_iter().map(|p| format!("{}\n{}", p.strip_prefix(root()).unwrap().display(), code(p))).collect();
    Digest::of(all.join("\n\n").as_bytes()).short()
}

/// A line for each kind (its own file, or its folder) and for each part that all of them share.
fn lines() -> Vec<String> {
    let builtin = root().join("stages/builtin/src");
    let mut own: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut shared = Vec::new();
    let registry = opdflow_stages::registry();
    let kinds: Vec<_> = registry.kinds().map(|k| k.describe()).collect();
    for path in sources(&builtin) {
        let folder = path.parent().unwrap();
        let neighbours = if folder == builtin { vec![path.clone()] } else { sources(folder) };
        let text: String = neighbours.iter().map(|p| std::fs::read_to_string(p).unwrap()).collect();
        let of = kinds.iter().filter(|k| text.contains(&format!("kind: \"{}\"", k.kind)));
        let mut alone = true;
        for kind in of {
            alone = false;
            own.entry(format!("{} semantics {}", kind.kind, kind.semantics)).or_default().push(path.clone());
        }
        if alone {
            shared.push(path);
        }
    }
    assert_eq!(own.len(), kinds.len(), "a kind whose source was not found");
    let mut lines: Vec<String> = own.iter().map(|(kind, paths)| format!("{kind} {}", digest(paths))).collect();
    lines.push(format!("shared by all kinds {}", digest(&shared)));
    for part in ["flow", "rewards", "critics", "world"] {
        lines.push(format!("crate {part} {}", digest(&sources(&root().join("stages").join(part).join("src")))));
    }
    lines
}

#[test]
fn a_changed_stage_raises_its_semantics_or_somebody_says_that_it_need_not() {
    let text = lines().join("\n") + "\n";
    let golden = root().join("tests/golden/sources.txt");
    if std::env::var_os("OPDFLOW_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::write(&golden, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&golden).unwrap();
    let changed: Vec<&str> = text.lines().filter(|l| !kept.lines().any(|k| k == *l)).collect();
    assert!(
        changed.is_empty() && text.lines().count() == kept.lines().count(),
        "the source of what stages compute has changed:\n  {}\nIf a kind now gives other bytes for the same inputs, raise its `semantics`. \
         Then: OPDFLOW_GOLDEN=write cargo test --test semantics",
        changed.join("\n  ")
    );
}

#[test]
fn comments_and_tests_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rs");
    let of = |text: &str| {
        std::fs::write(&path, text).unwrap();
        code(&path)
    };
    let plain = of("fn a() {\n    b();\n}\n");
    assert_eq!(plain, of("// why\nfn a() {\n\n  b();\n}\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n"));
    assert_ne!(plain, of("fn a() {\n    c();\n}\n"));
}
