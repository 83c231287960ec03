//! FLUX.1-schnell by the recipe of FLUX.1-dev with another file of variables, and the adapters that a recipe for FLUX.1 must name.

use crate::space::Mini;
use std::path::{Path, PathBuf};

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A folder of schnell's form: its own network and noise levels, all else of the small dev.
fn schnell(mini: &Mini) -> String {
    let flux = here("stages/models/tests/parity_flux");
    crate::common::links(&flux.join("dev"), &mini.path("schnell"));
    for part in ["transformer", "scheduler"] {
        std::fs::remove_dir_all(mini.path("schnell").join(part)).unwrap();
        crate::common::links(&flux.join("schnell_parts").join(part), &mini.path("schnell").join(part));
    }
    mini.path("schnell").display().to_string()
}

#[test]
fn the_recipe_of_dev_runs_on_schnell_with_other_variables() {
    let mini = Mini::new();
    let base = schnell(&mini);
    let [recipe, own, tiny] = ["multitask.yaml", "schnell.vars.yaml", "tiny.vars.yaml"]
        .map(|name| here("recipes/flux1").join(name).display().to_string());
    // What schnell.vars.yaml says of guidance stays; its base and its steps give way to the small ones.
    let (set, four) = (format!("base={base}"), "steps=4");
    let with = ["--vars", &tiny, "--vars", &own, "--set", &set, "--set", four, "--set", "eval_steps=4"];
    let ran = mini.run(&[&["run", &recipe, "--json"][..], &with].concat()).expect(0);
    assert_eq!(ran.json()["stages"].as_object().unwrap().len(), 19, "{}", ran.stdout);
    assert_ne!(ran.outputs()["best[task=looks].lora"], ran.outputs()["student.lora"]);
    let table = std::fs::read_to_string(mini.path(".opdflow/runs/latest/outputs/table1.md")).unwrap();
    assert!(table.contains("FLUX.1-schnell: teachers of one reward and their student"), "{table}");
    let again = mini.run(&[&["plan", &recipe, "--exit-code"][..], &with].concat()).expect(0);
    assert!(again.stdout.contains("nothing to do"), "{}", again.stdout);
    // Its student is an adapter of this base.
    mini.run(&[&["get", &recipe, "student.lora", "-o", "student"][..], &with].concat()).expect(0);
    let generate = ["generate", "--base", &base, "--lora", "student", "--prompt", "a red circle", "--size", "64"];
    mini.run(&[&generate[..], &["--num-inference-steps", "4", "-o", "made"]].concat()).expect(0);
    assert!(mini.path("made/0000.png").is_file());
}

/// The targets that an adapter has where none are named are the base's own family's.
#[test]
fn an_adapter_on_flux_has_flux_s_targets() {
    let mini = Mini::new();
    let base = here("stages/models/tests/parity_flux/dev");
    mini.write(
        "r.yaml",
        &format!(
            "opdflow: 1\nname: own\nseed: 3\nstages:\n  base: {{uses: base_model, with: {{source: \"{}\"}}}}\n  words: \
             {{uses: prompts, with: {{task: geneval, train: 2, validation: 0, test: 2}}}}\n  teacher: {{uses: train_teacher, \
             needs: {{base: base.model, prompts: words.train}}, with: {{algorithm: {{diffusion_nft: {{}}}}, reward: {{looks: \
             1.0}}, iterations: 1, size: 64, sampling: {{prompts: 1, group_size: 2, num_inference_steps: 2}}, \
             lora: {{rank: 2, alpha: 4}}}}}}\n",
            base.display()
        ),
    );
    mini.run(&["run", "r.yaml"]).expect(0);
    mini.run(&["get", "r.yaml", "teacher.lora", "-o", "adapter"]).expect(0);
    let config = std::fs::read_to_string(mini.path("adapter/adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let targets = config["target_modules"].as_array().unwrap();
    assert_eq!(targets.len(), 12, "{targets:?}");
    assert!(targets.contains(&"ff_context.net.2".into()) && targets.contains(&"attn.to_add_out".into()), "{targets:?}");
}
