//! The build without libtorch: it knows every kind of stage, and its keys are those of the other build.
#![cfg(not(feature = "torch"))]
#![allow(missing_docs)]

mod common;
mod shipped;

use common::TestSpace;

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

/// What is in the keys as the version of libtorch is what this pin of tch builds against.
#[test]
fn the_version_of_libtorch_is_that_of_the_pinned_tch() {
    let manifest = std::fs::read_to_string(shipped::root().join("Cargo.toml")).unwrap();
    let pin = manifest.lines().find_map(|line| line.strip_prefix("tch = \"=")).unwrap().trim_end_matches('"');
    assert_eq!((pin, opdflow_kinds::LIBTORCH), ("0.24.0", "2.11.0"), "a new tch has a new libtorch: state it");
}
