//! An adapter ready to publish: its card says what the recipe and the store say, and its lock makes it again or names what differs.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::Value;

const PART: &str = "opdflow: 1
vars: {like: 1.0}
stages:
  number: {uses: fake_source, with: {value: 4, file: number.txt}}
  student: {uses: fake_lora, needs: {base: number.value}, with: {reward: {ocr: \"${like}\", looks: 0.5}, note: \"a | *b*\"}}
";

const RECIPE: &str = "opdflow: 1
name: r
include: parts/part.yaml
vars: {prompt: a cat}
stages:
  judged: {uses: fake_judge, needs: {lora: student.lora}, with: {score: 0.75, prompts: [\"<b>a | dog</b>\", \"${prompt}\"]}}
  base_scores: {uses: fake_judge, with: {score: 0.5, prompts: [a | dog, a cat]}}
  other: {uses: fake_source, with: {file: not/here}}
";

/// A project in a folder of its own, and a run of it with all that a command line may change.
fn project() -> TestSpace {
    let space = TestSpace::new();
    std::fs::create_dir_all(space.path("project/parts")).unwrap();
    space.write("project/r.yaml", RECIPE);
    space.write("project/parts/part.yaml", PART);
    space.write("project/parts/number.txt", "38");
    space.write("vars.yaml", "prompt: a bird\n");
    std::fs::create_dir_all(space.path("project/not")).unwrap();
    space.write("project/not/here", "1");
    space.run(&[&["run", "project/r.yaml"], &CHANGES[..]].concat()).expect(0);
    space
}

const CHANGES: [&str; 6] = ["--vars", "vars.yaml", "--set", "like=2", "--seed", "9"];

fn get(space: &TestSpace, more: &[&str]) -> common::Ran {
    let args = [&["get", "project/r.yaml", "student.lora", "-o", "out/student", "--card"], &CHANGES[..], more];
    space.run(&args.concat())
}

fn text(space: &TestSpace, file: &str) -> String {
    std::fs::read_to_string(space.path(file)).unwrap()
}

fn keys(space: &TestSpace, args: &[&str]) -> Vec<(String, Value)> {
    let plan = space.run(&[&["plan"], args, &["--json"]].concat()).expect(0).json();
    let stages = plan["stages"].as_array().unwrap().iter();
    stages.map(|s| (s["stage"].as_str().unwrap().to_owned(), s["key"].clone())).collect()
}

#[test]
fn a_card_says_what_the_adapter_is() {
    let space = project();
    let made = get(&space, &["--json"]).expect(0).json();
    assert_eq!(made["lock"], "recipe.lock.yaml");
    let card = text(&space, "out/student/README.md");
    let front = card.strip_prefix("---\n").unwrap().split("\n---\n").next().unwrap();
    assert!(front.contains("library_name: peft") && front.contains("pipeline_tag: text-to-image"), "{front}");
    for wanted in [
        "# student.lora of r",
        "- licence: not stated by its files",
        // 0.75 and 0.5, each with 1.96 times 0.125.
        "| words (2) | ocr       | 0.500 (0.255 to 0.745) | 0.750 (0.505 to 0.995) |",
        "| \\<b\\>a \\| dog\\</b\\> | ![](images/base-00.png) | ![](images/adapter-00.png) |",
        "- student: looks 0.5, ocr 2.0",
        "PeftModel.from_pretrained",
        "`note \"a | *b*\", reward.looks 0.5, reward.ocr 2.0, seed 9`",
        "parts/number.txt",
        "opdflow run recipe.lock.yaml",
    ] {
        assert!(card.contains(wanted), "no `{wanted}` in\n{card}");
    }
    assert_eq!(&std::fs::read(space.path("out/student/images/adapter-01.png")).unwrap()[1..4], b"PNG");
    assert_eq!(text(&space, "out/student/adapter_config.json"), "{}");
    // Ours may be replaced, what was added may not.
    assert!(get(&space, &[]).expect(2).stderr.contains("--overwrite"));
    get(&space, &["--overwrite"]).expect(0);
    space.write("out/student/notes", "mine");
    assert!(get(&space, &["--overwrite"]).expect(2).stderr.contains("notes"));
}

#[test]
fn a_base_s_files_say_its_licence() {
    let space = project();
    let licence = |files: &[(&str, &str)]| {
        for (name, text) in files {
            space.write(&format!("project/parts/{name}"), text);
        }
        get(&space, &["--overwrite"]).expect(0);
        text(&space, "out/student/README.md")
    };
    let said = licence(&[("LICENSE.md", "\n# Some *terms*\nmore\n")]);
    assert!(said.contains("- licence: `LICENSE.md`: \\# Some \\*terms\\*\n"), "{said}");
    let card = "---\nlicense: other\nlicense_name: a-community\ntags: [x]\n---\nA model.\n";
    let index = "{\"_class_name\": \"StableDiffusion3Pipeline\"}";
    let said = licence(&[("README.md", card), ("model_index.json", index)]);
    assert!(said.starts_with("---\nlibrary_name: peft\nlicense: other\nlicense_name: a-community\n"), "{said}");
    assert!(said.contains("- licence: other, a-community"), "{said}");
    assert!(said.contains("from diffusers import StableDiffusion3Pipeline"), "{said}");
}

#[test]
fn a_shared_card_has_no_prompts_and_no_paths() {
    let space = project();
    get(&space, &["--no-prompts"]).expect(0);
    assert!(!space.path("out/student/recipe.lock.yaml").exists());
    let card = text(&space, "out/student/README.md");
    for secret in ["dog", "number.txt", "a | *b*", "project"] {
        assert!(!card.contains(secret), "`{secret}` in\n{card}");
    }
    assert!(card.contains("There is no lock") && card.contains("0.750 (0.505 to 0.995)"), "{card}");
    let refused = space.run(&["get", "project/r.yaml", "student.lora", "-o", "x", "--no-prompts"]).expect(2);
    assert!(refused.stderr.contains("--card"), "{}", refused.stderr);
}

#[test]
fn what_is_no_adapter_has_no_card() {
    let space = project();
    let changed = |args: &[&str]| space.run(&[args, &CHANGES[..]].concat()).expect(2).stderr;
    let said = changed(&["get", "project/r.yaml", "number.value", "-o", "x", "--card"]);
    assert!(said.contains("of type value") && said.contains("leave `--card` away"), "{said}");
    for file in ["x.safetensors", "-"] {
        let said = changed(&["get", "project/r.yaml", "student.lora", "-o", file, "--card"]);
        assert!(said.contains("name a folder"), "{said}");
    }
}

#[test]
fn a_lock_has_the_keys_of_its_recipe_and_needs_nothing_else() {
    let space = project();
    get(&space, &[]).expect(0);
    let own = keys(&space, &[&["project/r.yaml"], &CHANGES[..]].concat());
    assert_eq!(keys(&space, &["out/student/recipe.lock.yaml"]), own);
    let ran = space.run(&["run", "out/student/recipe.lock.yaml", "--json"]).expect(0);
    assert!(ran.verdicts().values().all(|v| v == "hit") && ran.verdicts().len() == 4, "{ran:?}");
    assert!(ran.stderr.contains("student.lora: the bytes of the lock"), "{}", ran.stderr);
    // On another machine: no recipe, another store, the input beside the lock.
    std::fs::create_dir_all(space.path("elsewhere/parts")).unwrap();
    std::fs::copy(space.path("out/student/recipe.lock.yaml"), space.path("elsewhere/l.yaml")).unwrap();
    std::fs::rename(space.path("project"), space.path("gone")).unwrap();
    space.write("elsewhere/parts/number.txt", "38");
    let other = ["run", "elsewhere/l.yaml", "--store", "other", "--run-dir", "runs"];
    let ran = space.run(&other).expect(0);
    assert!(ran.stderr.contains("student.lora: the bytes of the lock"), "{}", ran.stderr);
    // The run keeps the lock, which still runs, and a lock of a lock is the same but for its place.
    let copy =
        std::fs::read_dir(space.path("runs/runs")).unwrap().flatten().find(|e| e.file_name() != "latest").unwrap();
    let copy = copy.path().join("recipe.yaml");
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(space.path("elsewhere/l.yaml")).unwrap());
    let args = ["get", "elsewhere/l.yaml", "student.lora", "-o", "again", "--card", "--store", "other"];
    space.run(&args).expect(0);
    let without_place = |file: &str| {
        let lines = text(&space, file);
        lines.lines().filter(|l| !l.starts_with("folder:")).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_place("again/recipe.lock.yaml"), without_place("elsewhere/l.yaml"));
    // What the command line says goes above what the lock says.
    let changed = keys(&space, &["elsewhere/l.yaml", "--set", "like=3"]);
    assert_ne!(changed, own);
}

#[test]
fn a_lock_names_what_is_missing_or_differs() {
    let space = project();
    get(&space, &[]).expect(0);
    let lock = "out/student/recipe.lock.yaml";
    let digest = |what: &[u8]| opdflow_api::cache::Digest::of(what).to_string();
    space.write("project/parts/number.txt", "39");
    let said = space.run(&["run", lock]).expect(2).stderr;
    for wanted in [
        "E053",
        "`number` does not find what the lock pins",
        &format!("pinned: parts/number.txt, 2 bytes, {}", digest(b"38")),
        &format!("2 bytes, {}", digest(b"39")),
        "--set number.with.PARAMETER=PATH",
    ] {
        assert!(said.contains(wanted), "no `{wanted}` in {said}");
    }
    std::fs::remove_file(space.path("project/parts/number.txt")).unwrap();
    let said = space.run(&["run", lock]).expect(2).stderr;
    assert!(said.contains("E050") && said.contains("files are missing") && said.contains(&digest(b"38")), "{said}");
    // Elsewhere on this machine.
    space.write("mine.txt", "38");
    let mine = format!("number.with.file={}", space.path("mine.txt").display());
    space.run(&["run", lock, "--set", &mine]).expect(0);
    // What no stage of the lock needs is not asked for.
    std::fs::remove_dir_all(space.path("project/not")).unwrap();
    space.run(&["run", lock, "--set", &mine]).expect(0);
}

#[test]
fn a_damaged_lock_is_named() {
    let space = project();
    get(&space, &[]).expect(0);
    let whole = text(&space, "out/student/recipe.lock.yaml");
    let refused = |text: &str, wanted: &str| {
        space.write("l.yaml", text);
        let said = space.run(&["check", "l.yaml"]).expect(2).stderr;
        assert!(said.contains("E052") && said.contains(wanted), "{said}");
    };
    refused(&whole.replace("opdflow_lock: 1", "opdflow_lock: 2"), "format 2 of locks is not known");
    refused(&whole.replace("recipe: r.yaml", "recipe: other.yaml"), "`other.yaml` is not among its `files`");
    refused(&whole.replace("program:", "programme:"), "programme");
    for cut in (40..whole.len() - 2).step_by(whole.len() / 17) {
        space.write("l.yaml", &whole[..cut]);
        let ran = space.run(&["check", "l.yaml"]);
        assert!(matches!(ran.code, 0 | 2), "{cut}: {ran:?}");
    }
    // An include that the lock lacks is not looked for on the disk.
    let lacking = whole.replace("  parts/part.yaml: |", "  parts/other.yaml: |");
    assert_ne!(lacking, whole);
    space.write("project/l.yaml", &lacking);
    let said = space.run(&["check", "project/l.yaml"]).expect(2).stderr;
    assert!(said.contains("E029") && said.contains("the lock does not hold it"), "{said}");
}
