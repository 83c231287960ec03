//! A user's own files: a model folder as it is downloaded, adapters, prompts. What is kept is what the key says.

use crate::space::Mini;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What diffusers and peft themselves wrote, with small random weights (`make_fixtures.py` there).
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/flow/tests/parity")
}

const STAGES: &str = "opdflow: 1
name: own
seed: 3
stages:
  base: {uses: base_model, with: {source: ./folder}}
";

/// A copy of a folder in which every file is a link, as a download cache lays it out.
fn links(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            links(&entry.path(), &target);
        } else {
            std::os::unix::fs::symlink(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_folder_of_links_with_more_than_the_model_is_that_model() {
    let mini = Mini::new();
    let model = fixtures().join("pipeline");
    links(&model, &mini.path("folder"));
    mini.write("folder/README.md", "a card");
    mini.write("folder/transformer/other.fp16.safetensors", "another precision");
    mini.write("r.yaml", STAGES);
    let first = mini.run(&["run", "r.yaml", "--json"]).expect(0);
    mini.write("plain.yaml", &STAGES.replace("./folder", &model.display().to_string()));
    let second = mini.run(&["run", "plain.yaml", "--json"]).expect(0);
    assert_eq!(second.verdicts()["base"], "hit", "the content is in the key, not the path");
    assert_eq!(first.outputs(), second.outputs());
    mini.run(&["get", "r.yaml", "base.model", "-o", "kept"]).expect(0);
    assert!(!mini.path("kept/README.md").exists());
    let bytes = |p: PathBuf| std::fs::read(p).unwrap();
    let file = "transformer/diffusion_pytorch_model.safetensors";
    assert_eq!(bytes(mini.path("kept").join(file)), bytes(model.join(file)));
    // What the user does to the files afterwards does not reach into the store.
    std::fs::remove_file(mini.path("folder").join(file)).unwrap();
    std::fs::write(mini.path("folder").join(file), "gone").unwrap();
    mini.run(&["verify", "--deep"]).expect(0);
}

/// A plan that stood on other bytes than those that are there when the stage comes to read them.
#[test]
fn files_that_change_while_a_recipe_runs_are_refused() {
    let mini = Mini::new();
    mini.write("words.txt", "a sign that says \"cat\"\n");
    mini.write("r.yaml", &format!(
        "{STAGES}  words: {{uses: prompts, with: {{files: {{train: words.txt}}}}}}\n  lora: {{uses: import_lora, needs: {{base: base.model}}, with: {{source: \"{}\"}}}}\n",
        fixtures().join("lora_r2").display()
    ));
    links(&fixtures().join("pipeline"), &mini.path("folder"));
    mini.run(&["run", "r.yaml"]).expect(0);
    for (stage, asset) in [("base", "model"), ("words", "prompts.train"), ("lora", "lora.weights")] {
        let path = mini.path(&format!(".opdflow/runs/latest/jobs/{stage}.json"));
        let mut job: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert!(job["manifest"]["assets"][asset].is_string(), "{stage}");
        job["manifest"]["assets"][asset] = "0".repeat(64).into();
        job["force"] = true.into();
        mini.write("job.json", &job.to_string());
        let output =
            std::process::Command::new(Path::new(env!("CARGO_BIN_EXE_opdflow")).with_file_name("opdflow-stage"))
                .args(["__stage", "job.json"])
                .current_dir(mini.path(""))
                .output()
                .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(65), "{stage}: {said}");
        assert!(said.contains("changed while the recipe ran") && said.contains("run it again"), "{stage}: {said}");
    }
}

#[test]
fn an_adapter_of_one_s_own_is_taken_in_and_held_against_the_base() {
    let mini = Mini::new();
    let recipe = |base: &str, source: &str| {
        format!(
            "opdflow: 1\nname: own\nseed: 3\nstages:\n  base: {{uses: base_model, with: {{source: \"{base}\"}}}}\n  lora: {{uses: import_lora, needs: {{base: base.model}}, with: {{source: \"{source}\"}}}}\n"
        )
    };
    let (base, at) = (fixtures().join("pipeline").display().to_string(), fixtures().display().to_string());
    let mut kept = Vec::new();
    for source in ["lora_r2", "lora_r8", "lora_single.safetensors"] {
        mini.write("r.yaml", &recipe(&base, &format!("{at}/{source}")));
        let ran = mini.run(&["run", "r.yaml", "--json"]).expect(0);
        kept.push(ran.outputs()["lora.lora"].clone());
        let out = format!("out-{source}");
        mini.run(&["get", "r.yaml", "lora.lora", "-o", &out]).expect(0);
        let config: Value =
            serde_json::from_slice(&std::fs::read(mini.path(&out).join("adapter_config.json")).unwrap()).unwrap();
        assert_eq!(config["r"], if source == "lora_r8" { 8 } else { 2 }, "{source}");
        // Its own tensors, under their own names.
        if source != "lora_single.safetensors" {
            let file = "adapter_model.safetensors";
            let (a, b) = (fixtures().join(source).join(file), mini.path(&out).join(file));
            assert_eq!(std::fs::metadata(a).unwrap().len(), std::fs::metadata(b).unwrap().len(), "{source}");
        }
    }
    assert_ne!(kept[0], kept[1]);

    mini.write("r.yaml", &recipe("bundled:mini", &format!("{at}/lora_r2")));
    let found = mini.run(&["run", "r.yaml"]).expect(2).stderr;
    for part in ["E045", "`source` of stage `lora`", "features, but the base has 96", "the base that the adapter"] {
        assert!(found.contains(part), "no `{part}` in {found}");
    }
    mini.write("r.yaml", &recipe(&base, &format!("{at}/mmdit_plain.safetensors")));
    let ran = mini.run(&["run", "r.yaml", "--json"]).expect(1);
    assert!(ran.json()["stages"]["lora"]["message"].to_string().contains("is not part of a LoRA"), "{}", ran.stdout);
    mini.write("r.yaml", &recipe(&base, "no_such_folder"));
    let ran = mini.run(&["run", "r.yaml"]).expect(2);
    for part in ["E050", "adapter_config.json", "adapter_model.safetensors"] {
        assert!(ran.stderr.contains(part), "no `{part}` in {}", ran.stderr);
    }
}

#[test]
fn a_line_that_is_no_prompt_is_found_before_anything_runs() {
    let mini = Mini::new();
    mini.write("bad.jsonl", "a dog\n{\"txt\": 1}\n");
    mini.write(
        "r.yaml",
        "opdflow: 1\nname: own\nstages:\n  words: {uses: prompts, with: {files: {train: bad.jsonl}}}\n",
    );
    let ran = mini.run(&["check", "r.yaml"]).expect(2);
    assert!(ran.stderr.contains("E050") && ran.stderr.contains("bad.jsonl:2"), "{}", ran.stderr);
}
