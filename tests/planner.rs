//! The build without libtorch: it knows every kind of stage, and its keys are those of the other build.
#![cfg(not(feature = "torch"))]
#![allow(missing_docs)]

mod common;
mod shipped;

use common::TestSpace;
use std::process::Command;

/// That of the other build is `tests/recipes.rs`.
#[test]
fn every_shipped_recipe_has_the_keys_of_the_golden_file() {
    let kept = std::fs::read_to_string(shipped::root().join("tests/golden/keys.txt")).unwrap();
    let now = shipped::golden();
    for (now, then) in now.lines().zip(kept.lines()) {
        assert_eq!(now, then);
    }
    assert_eq!(now.lines().count(), kept.lines().count());
}

/// The program itself, with the numeric profile that it states.
#[test]
fn the_program_plans_with_every_kind() {
    let space = TestSpace::new();
    let recipe = shipped::root().join("recipes/multitask.yaml");
    let plan = space.run(&["plan", recipe.to_str().unwrap(), "--json"]).expect(0);
    assert!(plan.stdout.contains("train_teacher") && plan.stdout.contains("distill"), "{}", plan.stdout);
    let listed = space.run(&["stages"]).expect(0);
    for kind in opdflow_kinds::registry().names() {
        assert!(listed.stdout.contains(kind), "{kind}: {}", listed.stdout);
    }
}

/// A machine without the program of the stages is not asked for what they need to run: the files that `ocr` reads with, or a GPU.
#[test]
fn what_stages_need_of_a_machine_is_not_asked_of_one_that_only_plans() {
    let space = TestSpace::new();
    // Alone in its folder: the build folder may hold the other program too.
    let alone = space.path("opdflow");
    std::fs::copy(env!("CARGO_BIN_EXE_opdflow"), &alone).unwrap();
    let recipe = shipped::root().join("recipes/multitask.yaml");
    let on_gpu = std::fs::read_to_string(&recipe).unwrap() + "\nnumerics: {profile: strict, device: cuda}\n";
    space.write("cuda.yaml", &on_gpu);
    for recipe in [recipe, space.path("cuda.yaml")] {
        let plan = Command::new(&alone)
            .args(["plan", recipe.to_str().unwrap(), "--store"])
            .arg(space.store())
            .env("OPDFLOW_DEPS", "/nonexistent")
            .env("CUDA_VISIBLE_DEVICES", "")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&plan.stdout).into_owned() + &String::from_utf8_lossy(&plan.stderr);
        assert_eq!(plan.status.code(), Some(0), "{said}");
        assert!(!said.contains("missing") && !said.contains("E051"), "{said}");
    }
}

/// What is in the keys as the version of libtorch is what this pin of tch builds against.
#[test]
fn the_version_of_libtorch_is_that_of_the_pinned_tch() {
    let manifest = std::fs::read_to_string(shipped::root().join("Cargo.toml")).unwrap();
    let pin = manifest.lines().find_map(|line| line.strip_prefix("tch = \"=")).unwrap().trim_end_matches('"');
    assert_eq!((pin, opdflow_kinds::LIBTORCH), ("0.24.0", "2.11.0"), "a new tch has a new libtorch: state it");
}

/// Every command that starts no stage, on every shipped recipe. Files that a recipe asks a user for are missing here, which each
/// command says (2); nothing is a bug (70) or unknown.
#[test]
fn every_command_that_starts_no_stage_works_on_every_shipped_recipe() {
    let space = TestSpace::new();
    for path in shipped::shipped() {
        let recipe = path.to_str().unwrap();
        let first = shipped::plan(&path, &opdflow::recipe::Overrides::default()).stages[0].spec.name.clone();
        for args in [
            &["check", recipe][..],
            &["plan", recipe],
            &["plan", recipe, "--json"],
            &["explain", recipe, &first],
            &["graph", recipe],
        ] {
            let ran = space.run(args);
            assert!(matches!(ran.code, 0 | 2), "{args:?}: {} {}", ran.code, ran.stderr);
            let said = ran.stdout + &ran.stderr;
            assert!(ran.code == 0 || said.contains("E050") || said.contains("E051"), "{args:?}: {said}");
        }
    }
    let schema = space.run(&["schema"]).expect(0).stdout;
    assert!(schema.contains("train_teacher"));
    for kind in opdflow_kinds::registry().names() {
        space.run(&["stages", kind]).expect(0);
    }
}

/// What runs without the other program goes through the store and out of it again: run, get, lineage, export, import.
#[test]
fn a_run_of_light_stages_is_kept_shown_and_handed_on() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "said: {uses: note, with: {text: \"planned on a login node\"}}");
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&["get", "r.yaml", "said.markdown", "-o", "out.md"]).expect(0);
    assert!(std::fs::read_to_string(space.path("out.md")).unwrap().contains("login node"));
    space.run(&["lineage", "out.md"]).expect(0);
    space.run(&["export", "-o", "run.tar"]).expect(0);
    let other = TestSpace::new();
    std::fs::copy(space.path("run.tar"), other.path("run.tar")).unwrap();
    other.write("r.yaml", &std::fs::read_to_string(space.path("r.yaml")).unwrap());
    other.run(&["import", "run.tar"]).expect(0);
    assert!(other.run(&["plan", "r.yaml"]).expect(0).stdout.contains("hit"));
}
