//! `opdflow doctor`: what this machine has and lacks, alone and for a recipe.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::Value;

fn findings(space: &TestSpace, args: &[&str]) -> (i32, Vec<Value>) {
    let mut command = space.command(&[&["doctor", "--json"], args].concat());
    let ran = command.output().unwrap();
    let found: Value = serde_json::from_slice(&ran.stdout).unwrap();
    (ran.status.code().unwrap(), found.as_array().unwrap().clone())
}

#[test]
fn the_machine_the_store_and_the_program_are_looked_at() {
    let space = TestSpace::new();
    let (code, found) = findings(&space, &[]);
    let of =
        |about: &str| found.iter().find(|f| f["about"] == about).unwrap_or_else(|| panic!("no {about} in {found:#?}"));
    for about in ["opdflow", "machine", "store"] {
        assert_eq!(of(about)["ok"], true, "{found:#?}");
    }
    assert!(of("store")["found"].as_str().unwrap().contains(" free"));
    assert!(of("Slurm")["ok"] != false, "nobody needs it");
    // Whether the program that computes is beside this one hangs on the build.
    let lacks = found.iter().any(|f| f["ok"] == false);
    assert_eq!(code, if lacks { 2 } else { 0 });
    for lacking in found.iter().filter(|f| f["ok"] == false) {
        assert!(lacking["help"].is_string(), "the way out: {lacking}");
    }
    let text = space.command(&["doctor"]).output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).starts_with("ok     opdflow"));
}

#[test]
fn a_recipe_is_asked_what_it_lacks_here() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "a: {uses: fake_source, with: {value: 41}}");
    let (_, found) = findings(&space, &["r.yaml"]);
    let recipe = found.last().unwrap();
    assert_eq!((&recipe["about"], &recipe["ok"]), (&Value::from("recipe"), &Value::from(true)), "{recipe}");
    space.recipe(
        "p.yaml",
        "p: {uses: prompts, with: {files: {train: nowhere.txt}}}\n a: {uses: fake_source, with: {value: 41}}",
    );
    let (code, found) = findings(&space, &["p.yaml"]);
    assert_eq!(code, 2);
    let lacking = found.last().unwrap();
    assert_eq!((&lacking["about"], &lacking["ok"]), (&Value::from("p"), &Value::from(false)), "{found:#?}");
    let words = lacking["found"].as_str().unwrap();
    assert!(words.contains("nowhere.txt") && words.contains("p.yaml:"), "{words}");
    // A recipe with mistakes is one of the user's.
    space.recipe("bad.yaml", "a: {uses: nothing}");
    space.run(&["doctor", "bad.yaml"]).expect(2);
    assert!(space.path("r.yaml").is_file());
}

#[test]
fn a_store_that_cannot_be_used_is_named() {
    let space = TestSpace::new();
    space.write("file", "not a folder");
    let mut command = space.command(&["doctor", "--json", "--store", "file/store"]);
    let ran = command.output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
    let found: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let store = found.as_array().unwrap().iter().find(|f| f["about"] == "store").unwrap();
    assert!(store["ok"] == false && store["help"].as_str().unwrap().contains("OPDFLOW_STORE"), "{store}");
}

#[test]
fn a_store_that_is_not_there_yet_is_not_made() {
    let space = TestSpace::new();
    let place = space.path("new/store");
    let ran = space.command(&["doctor", "--json", "--store", place.to_str().unwrap()]).output().unwrap();
    let found: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let store = found.as_array().unwrap().iter().find(|f| f["about"] == "store").unwrap();
    assert!(store["ok"] == true && store["found"].as_str().unwrap().contains("the first run makes"), "{store}");
    assert!(!space.path("new").exists());
}
