//! Who may use whom: the crates by their manifests, the modules of the engine and the files of all crates by their sources.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "architecture/circles.rs"]
mod circles;

/// What each crate may name of ours, and of libtorch. Tests may name more.
const CRATES: [(&str, &[&str]); 15] = [
    ("opdflow-io", &[]),
    ("opdflow-cache", &["opdflow-io"]),
    ("opdflow-api", &["opdflow-cache", "opdflow-io"]),
    ("opdflow-rewards", &["opdflow-io"]),
    ("opdflow-miniature", &["opdflow-rewards"]),
    // No libtorch: a plan stands on it.
    ("opdflow-spec", &["opdflow-io"]),
    ("opdflow-ranks", &["tch", "torch-sys"]),
    // For benchmarks and checks of a machine: no stage names it.
    ("opdflow-profiler", &["tch", "torch-sys"]),
    ("opdflow-models", &["opdflow-spec", "opdflow-ranks", "opdflow-io", "tch", "torch-sys"]),
    ("opdflow-training", &["opdflow-spec", "opdflow-ranks", "opdflow-models", "tch", "torch-sys"]),
    ("opdflow-reward-models", &["opdflow-spec", "opdflow-models", "opdflow-rewards", "opdflow-io", "tch", "torch-sys"]),
    // No libtorch: a server is asked without it.
    ("opdflow-served", &["opdflow-spec", "opdflow-rewards", "opdflow-io"]),
    // No libtorch: what a kind says of itself is known without it.
    ("opdflow-kinds", &["opdflow-api", "opdflow-spec", "opdflow-rewards", "opdflow-miniature", "opdflow-io"]),
    (
        "opdflow-worker",
        &[
            "opdflow-api",
            "opdflow-kinds",
            "opdflow-spec",
            "opdflow-ranks",
            "opdflow-models",
            "opdflow-training",
            "opdflow-rewards",
            "opdflow-reward-models",
            "opdflow-served",
            "opdflow-miniature",
            "opdflow-io",
            "tch",
            "torch-sys",
        ],
    ),
    // `main.rs` and `bin/opdflow-stage.rs` alone may name the stages: see below.
    ("opdflow", &["opdflow-cache", "opdflow-api", "opdflow-kinds", "opdflow-worker", "opdflow-io", "torch-sys"]),
];

/// What each module of the engine may name of the others. `cli` stands above all of them.
const MODULES: [(&str, &[&str]); 8] = [
    ("recipe", &[]),
    ("plan", &["recipe"]),
    ("runlog", &[]),
    ("report", &["recipe", "plan", "runlog"]),
    ("render", &["runlog", "report"]),
    ("tracker", &["runlog", "report"]),
    ("exec", &["recipe", "runlog"]),
    ("sched", &["recipe", "plan", "exec", "runlog"]),
];

/// Most Rust files beside each other in a folder.
const MOST_FILES: usize = 22;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let ran = Command::new(cargo)
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo metadata starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).expect("cargo metadata gives JSON")
}

/// The Rust files below a folder, without their tests' folders.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// The names that stand before `::` or after `use` in a file, comments aside; `crate::x` as `crate::x`.
fn names(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).expect("a source file");
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let words: Vec<&str> =
            line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').filter(|w| !w.is_empty()).collect();
        for (i, word) in words.iter().enumerate() {
            let parts: Vec<&str> = word.split("::").collect();
            if parts.len() > 1 && !parts[0].is_empty() {
                found.insert(parts[0].to_owned());
                if parts[0] == "crate" {
                    found.insert(format!("crate::{}", parts[1]));
                }
            } else if i > 0 && words[i - 1] == "use" {
                found.insert(word.trim_end_matches(':').to_owned());
            }
        }
        // `use crate::{plan::Plan, recipe}`: each name that opens a branch.
        if let Some((_, list)) = line.split_once("crate::{") {
            for branch in list.split(['{', '}', ',']).map(str::trim) {
                let head = branch.split("::").next().unwrap_or_default();
                found.insert(format!("crate::{head}"));
            }
        }
    }
    found
}

#[test]
fn crates_depend_only_downwards() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, &[&str]> = CRATES.into_iter().collect();
    let packages = metadata["packages"].as_array().expect("packages");
    assert_eq!(packages.len(), CRATES.len(), "a crate is missing in the list above");
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("{name} is missing in the list above"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let on = dependency["name"].as_str().expect("a name");
            let ours = on.starts_with("opdflow") || on == "tch" || on == "torch-sys";
            if ours && dependency["kind"].is_null() {
                assert!(allowed.contains(&on), "{name} must not depend on {on}");
            }
        }
        // Sources of the crate, not of its tests.
        let folder =
            Path::new(package["manifest_path"].as_str().expect("a path")).parent().expect("a folder").join("src");
        for file in sources(&folder) {
            for name in names(&file) {
                let on = name.replace('_', "-");
                let own = package["name"] == on.as_str();
                if (CRATES.iter().any(|(c, _)| *c == on) || on == "tch") && !own {
                    assert!(allowed.contains(&on.as_str()), "{} must not name {name}", file.display());
                }
            }
        }
    }
}

#[test]
fn the_engine_knows_no_stage_and_no_tensor() {
    for file in sources(&root().join("src")) {
        // The two programs, which put the engine and the stages together.
        if file == root().join("src/main.rs") || file == root().join("src/bin/opdflow-stage.rs") {
            continue;
        }
        let names = names(&file);
        for forbidden in [
            "opdflow_spec",
            "opdflow_models",
            "opdflow_training",
            "opdflow_rewards",
            "opdflow_kinds",
            "opdflow_worker",
            "opdflow_miniature",
            "tch",
            "torch_sys",
        ] {
            assert!(!names.contains(forbidden), "{} must not name {forbidden}", file.display());
        }
    }
}

/// The program that plans is built of crates without libtorch, and the one that runs stages of all: `tests/two_programs.rs`.
#[test]
fn one_program_alone_runs_the_stages() {
    let text = std::fs::read_to_string(root().join("src/main.rs")).expect("a source file");
    assert!(text.contains("opdflow_kinds::registry()") && !text.contains("opdflow_worker"));
}

#[test]
fn the_engine_s_modules_look_only_downwards() {
    for (module, allowed) in MODULES {
        for file in sources(&root().join("src").join(module)) {
            for other in names(&file).iter().filter_map(|n| n.strip_prefix("crate::")) {
                let ours = other == "cli" || MODULES.iter().any(|(m, _)| *m == other);
                assert!(
                    !ours || other == module || allowed.contains(&other),
                    "{} must not name crate::{other}",
                    file.display()
                );
            }
        }
    }
}

/// Where the families of models lie: what is known of each without a tensor, and what computes.
const HOMES: [&str; 2] = ["stages/spec/src/families", "stages/models/src/families"];

/// The families of models: the folders beside a registry.
fn families(home: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(home)).expect("the families' folder");
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The families whose modules the code of a file names, as `families::NAME` or in a list `families::{..}`.
fn families_named(path: &Path, families: &[String]) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a source file");
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("families::") {
        let rest = &code[at + "families::".len()..];
        let names = rest.strip_prefix('{').and_then(|list| list.split('}').next()).unwrap_or(rest);
        let listed = rest.starts_with('{');
        for (i, name) in names.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|n| !n.is_empty()).enumerate() {
            if (i == 0 || listed) && families.iter().any(|family| family == name) {
                found.push(name.to_owned());
            }
        }
    }
    found
}

/// What one family has is nobody else's: whatever samples, trains, plans and stores sees the traits, and another family's
/// folder its own things. So a new family touches its two folders and the registry.
#[test]
fn a_family_s_inside_is_named_in_its_folders_alone() {
    let all = families(HOMES[0]);
    assert!(!all.is_empty());
    assert_eq!(families(HOMES[1]), all, "each family has a folder in both of {HOMES:?}");
    let homes = HOMES.map(|home| root().join(home));
    for krate in std::fs::read_dir(root().join("stages")).expect("the stages' folder").flatten() {
        for file in sources(&krate.path().join("src")) {
            let own = homes.iter().find_map(|home| file.strip_prefix(home).ok()?.components().next());
            let own = own.map(|name| name.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
            for named in families_named(&file, &all) {
                assert_eq!(named, own, "{} must not name families::{named}", file.display());
            }
        }
    }
    // The registry names each of them: one that it forgets would be read by nobody.
    let registry = std::fs::read_to_string(homes[0].join("mod.rs")).expect("the registry");
    let list = registry.split("$then![").nth(1).and_then(|rest| rest.split(']').next()).expect("the list of families");
    let mut listed: Vec<&str> = list.split(',').map(str::trim).collect();
    listed.sort_unstable();
    assert_eq!(listed, all, "the registry in {}/mod.rs", HOMES[0]);
}

#[test]
fn no_folder_holds_more_files_than_one_can_look_over() {
    let mut held: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for folder in ["src", "cache", "stages"] {
        for file in sources(&root().join(folder)) {
            let folder = file.parent().expect("a folder").strip_prefix(root()).expect("below the root");
            *held.entry(folder.to_owned()).or_default() += 1;
        }
    }
    for (folder, files) in held {
        assert!(files <= MOST_FILES, "{} holds {files} files: subfolders by what they are for", folder.display());
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let folder = Path::new(package["manifest_path"].as_str().expect("a path")).parent().expect("a folder");
        let at = folder.strip_prefix(root()).expect("below the root").display().to_string();
        let circles = circles::circles(&folder.join("src"));
        let shown: Vec<String> = circles.iter().map(|circle| circle.join("\n  ")).collect();
        assert!(
            circles.is_empty(),
            "files of {at}/src import each other in a circle; what both need belongs in a file below both:\n  {}",
            shown.join("\n\n  ")
        );
    }
}

#[test]
fn the_test_sees_what_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.rs");
    std::fs::write(&file, "use tch::Tensor;\nuse opdflow_models;\n// opdflow_miniature::x\nfn f() { crate::cli::x(); opdflow_rewards::y() }\nuse crate::{plan::Plan, recipe};\nlet dispatch::a = 1;\n").unwrap();
    let names = names(&file);
    for there in ["tch", "opdflow_models", "opdflow_rewards", "crate::cli", "crate::plan", "crate::recipe"] {
        assert!(names.contains(there), "{there}: {names:?}");
    }
    assert!(!names.contains("opdflow_miniature"));
    let other = dir.path().join("y.rs");
    std::fs::write(&other, "use opdflow_models::families::{self, a::X};\nlet y = crate::families::b::Y;\n// families::c\nfamilies::open(a, b);\n").unwrap();
    let all = ["a", "b", "c"].map(str::to_owned);
    assert_eq!(families_named(&other, &all), ["a", "b"]);
}
