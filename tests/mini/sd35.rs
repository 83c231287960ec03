//! The full-size recipes as they are shipped, on models that are small: only their variables differ.

use crate::own_files::fixtures;
use crate::space::Mini;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn shipped(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/sd35").join(name).display().to_string()
}

/// On a machine without weights: every file that is missing, and all that can be said all the same.
#[test]
fn without_weights_the_plan_names_all_that_is_missing() {
    let mini = Mini::new();
    for (recipe, last, paths) in [
        (
            "multitask.yaml",
            "student",
            &[
                "stable-diffusion-3.5-medium",
                "geneval_train.jsonl",
                "ocr_test.txt",
                "drawbench.txt",
                "mask2former-swin-small-coco-instance",
                "PickScore_v1",
                "HPS_v2.1_compressed.safetensors",
            ][..],
        ),
        ("cascade.yaml", "ocr_5", &["stable-diffusion-3.5-medium", "pickapic_train.txt", "ImageReward.safetensors"]),
        (
            "opd.yaml",
            "student",
            &["stable-diffusion-3.5-medium", "loras/geneval", "loras/ocr", "loras/pickscore", "drawbench.txt"],
        ),
    ] {
        let recipe = shipped(recipe);
        for command in ["check", "run"] {
            let ran = mini.run(&[command, &recipe]).expect(2);
            for path in paths {
                assert!(ran.stderr.contains(path), "{command}: no `{path}` in {}", ran.stderr);
            }
            assert!(ran.stderr.contains("docs/how-to/sd35.md") && ran.stderr.contains("E050"), "{}", ran.stderr);
        }
        assert!(!mini.path(".opdflow").exists(), "nothing was run");
        let json = mini.run(&["plan", &recipe, "--json"]).expect(2).json();
        let verdict = |name: &str| {
            let stages = json["stages"].as_array().unwrap();
            stages.iter().find(|s| s["stage"] == name).unwrap()["verdict"].as_str().unwrap().to_owned()
        };
        assert_eq!((verdict("base").as_str(), verdict("prompts[task=ocr]").as_str()), ("missing", "missing"));
        assert_eq!((verdict(last).as_str(), verdict("table1").as_str()), ("blocked", "blocked"));
        assert!(json["missing"].as_array().unwrap().len() >= paths.len());
        let text = mini.run(&["plan", &recipe]).expect(2);
        assert!(text.stdout.contains("blocked") && text.stderr.contains("E050"), "{}\n{}", text.stdout, text.stderr);
    }
}

#[test]
fn the_full_recipe_runs_on_the_miniature() {
    let mini = Mini::new();
    let vars = shipped("tiny.vars.yaml");
    let ran = mini.run(&["run", &shipped("multitask.yaml"), "--vars", &vars, "--json"]).expect(0);
    assert_eq!(ran.json()["stages"].as_object().unwrap().len(), 24, "{}", ran.stdout);
    let learned: BTreeSet<String> = ["best[task=geneval]", "best[task=ocr]", "best[task=looks]", "student"]
        .map(|s| ran.outputs()[&format!("{s}.lora")].clone())
        .into();
    assert_eq!(learned.len(), 4, "each learned something of its own");
    let table = std::fs::read_to_string(mini.path(".opdflow/runs/latest/outputs/table1.md")).unwrap();
    assert!(table.contains("opd student"), "{table}");
    assert!(mini.path(".opdflow/runs/latest/vars-1.yaml").exists(), "what the recipe ran with is kept");
    let again = mini.run(&["plan", &shipped("multitask.yaml"), "--vars", &vars, "--exit-code"]).expect(0);
    assert!(again.stdout.contains("nothing to do"), "{}", again.stdout);
    assert!(table.contains("| train s | cpu s |"), "{table}");
    times_of_the_miniature_are_not_those_of_the_full_size(&mini, &vars);
    candidates_are_told_apart(&mini, &vars);
}

/// What was measured on the miniature is scaled by operations for other sizes of it, and says nothing of a model that is not
/// there.
fn times_of_the_miniature_are_not_those_of_the_full_size(mini: &Mini, vars: &str) {
    let stages = |args: &[&str], code: i32| -> BTreeMap<String, Value> {
        let recipe = shipped("multitask.yaml");
        let plan = mini.run(&[&["plan", &recipe, "--json"], args].concat()).expect(code).json();
        let all = plan["stages"].as_array().unwrap().iter();
        all.map(|s| (s["stage"].as_str().unwrap().to_owned(), s.clone())).collect()
    };
    let small = stages(&["--vars", vars, "--seed", "5"], 0)["teacher[task=ocr]"].clone();
    assert_eq!((&small["seconds_from"], &small["bytes_from"]), (&"measured".into(), &"measured".into()), "{small}");
    let large =
        stages(&["--vars", vars, "--set", "group=24", "--set", "ocr_iterations=1000"], 0)["teacher[task=ocr]"].clone();
    assert_eq!((&large["seconds_from"], &large["bytes_from"]), (&"scaled".into(), &"scaled".into()), "{large}");
    let ratio = |of: &str| large[of].as_f64().unwrap() / small[of].as_f64().unwrap();
    assert!(ratio("operations") > 100.0, "{}", ratio("operations"));
    // The rate is the middle of several trainings', so that it need not be this one's.
    assert!((0.1..10.0).contains(&(ratio("seconds") / ratio("operations"))), "{large} {small}");
    for (name, stage) in stages(&[], 2) {
        let numeric = ["train_teacher", "distill", "select_checkpoint", "evaluate", "base_model"];
        if numeric.contains(&stage["kind"].as_str().unwrap()) {
            assert!(stage["seconds"].is_null() && stage["bytes"].is_null(), "{name}: {stage}");
        }
    }
}

/// All adapters of a rank have the same configuration; their weights are their own.
fn candidates_are_told_apart(mini: &Mini, vars: &str) {
    let recipe = shipped("multitask.yaml");
    mini.run(&["get", &recipe, "--vars", vars, "teacher[task=ocr].candidates", "-o", "told"]).expect(0);
    let first = std::fs::read_dir(mini.path("told")).unwrap().flatten().map(|e| e.path()).min().unwrap();
    let told = mini.run(&["lineage", first.to_str().unwrap()]).expect(0).stdout;
    assert!(told.contains("teacher[task=ocr]") && !told.contains("teacher[task=geneval]"), "{told}");
    let config = first.join("adapter_config.json");
    let refused = mini.run(&["lineage", config.to_str().unwrap()]).expect(2).stderr;
    for part in ["teacher[task=geneval]", "teacher[task=ocr]", "does not tell which one"] {
        assert!(refused.contains(part), "no `{part}` in {refused}");
    }
    std::fs::write(first.join("adapter_model.safetensors"), "others").unwrap();
    let refused = mini.run(&["lineage", first.to_str().unwrap()]).expect(2).stderr;
    assert!(refused.contains("no result in the store"), "{refused}");
}

/// Five stages, each from where the last one ended: what changes in one leaves those before it in the store.
#[test]
fn the_cascade_is_a_chain_of_cached_stages() {
    let mini = Mini::new();
    let (recipe, vars) = (shipped("cascade.yaml"), shipped("cascade.tiny.vars.yaml"));
    let ran = mini.run(&["run", &recipe, "--vars", &vars, "--json"]).expect(0);
    assert_eq!(ran.json()["stages"].as_object().unwrap().len(), 23, "{}", ran.stdout);
    let chain = ["looks_1", "geneval_2", "looks_3", "geneval_4", "ocr_5"];
    let learned: BTreeSet<String> = chain.map(|s| ran.outputs()[&format!("{s}.lora")].clone()).into();
    assert_eq!(learned.len(), chain.len(), "each learned something of its own");
    let more = ["run", &recipe, "--vars", &vars, "--set", "geneval_4_iterations=2", "--json"];
    let stages = mini.run(&more).expect(0).json()["stages"].clone();
    for (i, stage) in chain.iter().enumerate() {
        assert_eq!(stages[*stage]["verdict"] == "hit", i < 3, "{stage}: {}", stages[*stage]);
    }
}

/// The main recipe on a folder that diffusers' own `save_pretrained` wrote.
#[test]
fn the_full_recipe_runs_on_a_folder_of_diffusers_own() {
    let mini = Mini::new();
    let (recipe, vars) = (shipped("multitask.yaml"), shipped("tiny.vars.yaml"));
    let base = format!("base={}", fixtures().join("pipeline").display());
    let ran = mini.run(&["run", &recipe, "--vars", &vars, "--set", &base, "--json"]).expect(0);
    let stages = ran.json()["stages"].clone();
    assert_eq!(stages["table1"]["verdict"], "run", "{}", ran.stdout);
    mini.run(&["get", &recipe, "--vars", &vars, "--set", &base, "student.lora", "-o", "student"]).expect(0);
    let config: Value =
        serde_json::from_slice(&std::fs::read(mini.path("student/adapter_config.json")).unwrap()).unwrap();
    assert_eq!(config["r"], 2);
}

/// Released teachers, here those that peft itself wrote, into one student.
#[test]
fn teachers_of_one_s_own_are_distilled() {
    let mini = Mini::new();
    let at = |name: &str| fixtures().join(name).display().to_string();
    let tiny = |name: &str| shipped(&format!("tiny/{name}"));
    let vars = [
        ("base", at("pipeline")),
        ("geneval_lora", at("lora_r2")),
        ("ocr_lora", at("lora_r8")),
        ("looks_lora", at("lora_single.safetensors")),
        ("geneval_train", tiny("geneval.jsonl")),
        ("geneval_test", tiny("geneval.jsonl")),
        ("ocr_train", tiny("ocr.txt")),
        ("ocr_test", tiny("ocr.txt")),
        ("looks_train", tiny("looks.txt")),
        ("drawbench", tiny("looks.txt")),
        ("size", "64".to_owned()),
        ("steps", "3".to_owned()),
        ("eval_steps", "2".to_owned()),
        ("rounds", "2".to_owned()),
        ("student_prompts", "2".to_owned()),
    ];
    // The reward models are those of the other recipe's trial.
    let reward_models = std::fs::read_to_string(shipped("tiny.vars.yaml")).unwrap();
    let reward_models: String = reward_models
        .lines()
        .filter(|l| l.contains(": {") && !l.starts_with(['l', 'e']))
        .map(|l| format!("{l}\n"))
        .collect();
    let text: String = vars.iter().map(|(name, value)| format!("{name}: \"{value}\"\n")).collect();
    let text = text
        .lines()
        .map(|l| if l.contains('/') { l.to_owned() } else { l.replace('"', "") } + "\n")
        .collect::<String>();
    mini.write("own.vars.yaml", &(text + &reward_models));
    let ran = mini.run(&["run", &shipped("opd.yaml"), "--vars", "own.vars.yaml", "--json"]).expect(0);
    let lora = |stage: &str| ran.outputs()[&format!("{stage}.lora")].clone();
    assert_ne!(lora("teacher[task=geneval]"), lora("teacher[task=ocr]"));
    assert_eq!(ran.json()["stages"]["table1"]["verdict"], "run");
}

/// Real GenEval prompts on the miniature's detector: said before the first round, and not scored nought for ever.
#[test]
fn classes_that_the_detector_cannot_find_are_told_before_anything_runs() {
    let mini = Mini::new();
    mini.write(
        "bench.jsonl",
        "{\"tag\": \"single_object\", \"include\": [{\"class\": \"bench\", \"count\": 1}], \"prompt\": \"a photo of a bench\"}\n",
    );
    let file = mini.path("bench.jsonl").display().to_string();
    let set = [format!("geneval_train={file}"), format!("geneval_test={file}"), "validation=0".to_owned()];
    let mut args = vec!["run".to_owned(), shipped("multitask.yaml"), "--vars".to_owned(), shipped("tiny.vars.yaml")];
    args.extend(set.into_iter().flat_map(|s| ["--set".to_owned(), s]));
    args.extend(["--until", "teacher[task=geneval]", "--json"].map(ToOwned::to_owned));
    let ran = mini.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).expect(2);
    let found = ran.json()["diagnostics"].to_string();
    for part in [
        "E045",
        "`reward` of stage `teacher[task=geneval]`",
        "bench.jsonl:1: ",
        "cannot find",
        "docs/reference/rewards.md",
    ] {
        assert!(found.contains(part), "no `{part}` in {found}");
    }
}
