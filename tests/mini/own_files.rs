//! A user's own files: a model folder as it is downloaded, adapters, prompts. What is kept is what the key says.

use crate::space::Mini;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What diffusers and peft themselves wrote, with small random weights (`make_fixtures.py` there).
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/models/tests/parity")
}

const STAGES: &str = "opdflow: 1
name: own
seed: 3
stages:
  base: {uses: base_model, with: {source: ./folder}}
";

#[test]
fn a_folder_of_links_with_more_than_the_model_is_that_model() {
    let mini = Mini::new();
    let model = fixtures().join("pipeline");
    crate::common::links(&model, &mini.path("folder"));
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
    crate::common::links(&fixtures().join("pipeline"), &mini.path("folder"));
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
    let ran = mini.run(&["check", "r.yaml"]).expect(2);
    assert!(ran.stderr.contains("E050") && ran.stderr.contains("is not part of a LoRA"), "{}", ran.stderr);
    mini.write("r.yaml", &recipe(&base, "no_such_folder"));
    let ran = mini.run(&["run", "r.yaml"]).expect(2);
    for part in ["E050", "adapter_config.json", "adapter_model.safetensors"] {
        assert!(ran.stderr.contains(part), "no `{part}` in {}", ran.stderr);
    }
}

/// In every form, out of the store and into an image again.
#[test]
fn an_adapter_goes_out_in_every_form_and_comes_back_as_it_was() {
    let mini = Mini::new();
    let (base, lora) = (fixtures().join("pipeline"), fixtures().join("lora_r2"));
    mini.write("r.yaml", &format!(
        "opdflow: 1\nname: own\nseed: 3\nstages:\n  base: {{uses: base_model, with: {{source: \"{}\"}}}}\n  lora: {{uses: import_lora, needs: {{base: base.model}}, with: {{source: \"{}\"}}}}\n",
        base.display(), lora.display(),
    ));
    mini.run(&["run", "r.yaml"]).expect(0);
    let get = |more: &[&str]| mini.run(&[&["get", "r.yaml", "lora.lora"], more].concat());
    let image = |lora: &str, out: &str| {
        let base = base.display().to_string();
        let args = [
            "generate",
            "--base",
            &base,
            "--prompt",
            "a",
            "--num-inference-steps",
            "2",
            "-j",
            "1",
            "--lora",
            lora,
            "-o",
            out,
        ];
        mini.run(&args).expect(0);
        let bytes = std::fs::read(mini.path(out).join("0000.png")).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        pixels
    };
    let wanted = image(&lora.display().to_string(), "out");
    for (form, path) in [
        ("peft", "out-peft"),
        ("diffusers", "out-diffusers"),
        ("kohya", "out-kohya"),
        ("comfyui", "comfyui.safetensors"),
        ("diffusers", "diffusers.safetensors"),
    ] {
        let ran = get(&["--format", form, "-o", path, "--json"]).expect(0);
        let told: Value = serde_json::from_str(ran.stdout.trim()).unwrap();
        assert_eq!((told["format"].as_str(), told["dtype"].as_str()), (Some(form), Some("f32")));
        let written = mini.path(told["path"].as_str().unwrap());
        assert!(written.exists(), "{}", written.display());
        assert!(image(path, &format!("{path}.out")) == wanted, "{form} at {path} gives another image");
    }
    assert!(mini.path("out-diffusers/pytorch_lora_weights.safetensors").is_file());
    // At 16 bits it is half as large.
    get(&["--format", "kohya", "--dtype", "bf16", "-o", "half.safetensors"]).expect(0);
    let size = |p: &str| std::fs::metadata(mini.path(p)).unwrap().len();
    assert!(size("half.safetensors") < size("out-kohya/lora.safetensors") * 3 / 4);
    // As `get` without a form writes it, but for what peft does not read.
    get(&["-o", "plain"]).expect(0);
    for file in ["adapter_model.safetensors", "adapter_config.json", "opdflow.json"] {
        let bytes = |folder: &str| std::fs::read(mini.path(folder).join(file)).unwrap();
        assert!(bytes("plain") == bytes("out-peft"), "{file}");
    }
    for (args, says) in [
        (&["--format", "kohya", "-o", "half.safetensors"][..], "exists already"),
        (&["--format", "peft", "-o", "x.safetensors"], "a peft adapter is a folder"),
        (&["--format", "kohya", "-o", "-"], "cannot be printed"),
        (&["--format", "gguf", "-o", "x"], "comfyui"),
        (&["--dtype", "f16", "-o", "x"], "--format"),
    ] {
        let ran = get(args).expect(2);
        assert!(ran.stderr.contains(says), "{args:?}: {}", ran.stderr);
    }
    let ran = mini.run(&["get", "r.yaml", "base.model", "--format", "peft", "-o", "x"]).expect(2);
    assert!(ran.stderr.contains("`--format` is for adapters"), "{}", ran.stderr);
    get(&["--format", "kohya", "-o", "half.safetensors", "--overwrite"]).expect(0);
    assert_eq!(size("half.safetensors"), size("out-kohya/lora.safetensors"));
}

#[test]
fn adapters_that_are_no_plain_lora_are_found_before_anything_runs() {
    let mini = Mini::new();
    let base = fixtures().join("pipeline").display().to_string();
    let recipe = |source: &str| {
        format!(
            "opdflow: 1\nname: own\nseed: 3\nstages:\n  base: {{uses: base_model, with: {{source: \"{base}\"}}}}\n  lora: {{uses: import_lora, needs: {{base: base.model}}, with: {{source: \"{source}\"}}}}\n"
        )
    };
    let config = std::fs::read_to_string(fixtures().join("lora_r2/adapter_config.json")).unwrap();
    for (i, (field, value, says)) in [
        ("use_dora", "true", "DoRA is no sum"),
        ("init_lora_weights", "\"pissa\"", "has changed the base"),
        ("peft_type", "\"LOHA\"", "LoHa is no sum"),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = format!("bad{i}");
        crate::common::links(&fixtures().join("lora_r2"), &mini.path(&folder));
        let mut json: Value = serde_json::from_str(&config).unwrap();
        json[field] = serde_json::from_str(value).unwrap();
        std::fs::remove_file(mini.path(&folder).join("adapter_config.json")).unwrap();
        mini.write(&format!("{folder}/adapter_config.json"), &json.to_string());
        mini.write("r.yaml", &recipe(&folder));
        let ran = mini.run(&["check", "r.yaml"]).expect(2);
        assert!(ran.stderr.contains("E050") && ran.stderr.contains(says), "{field}: {}", ran.stderr);
    }
    mini.write("pickle.bin", "PK\u{3}\u{4}");
    mini.write("r.yaml", &recipe("pickle.bin"));
    let ran = mini.run(&["check", "r.yaml"]).expect(2);
    assert!(ran.stderr.contains("a pickle of PyTorch") && ran.stderr.contains("weights_only=True"), "{}", ran.stderr);
}

/// A single file with its tokenizers beside it is the base of a recipe, and what the store keeps is that model.
#[test]
fn a_single_file_is_a_base() {
    let mini = Mini::new();
    let single = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generate/single");
    mini.write("words.txt", "a sign that says \"cat\"\n");
    for (name, source) in [("folder.yaml", single.clone()), ("file.yaml", single.join("model.safetensors"))] {
        mini.write(name, &format!(
            "opdflow: 1\nname: own\nseed: 3\nstages:\n  base: {{uses: base_model, with: {{source: \"{}\"}}}}\n  words: {{uses: prompts, with: {{files: {{train: words.txt}}}}}}\n  embedded: {{uses: embed, needs: {{base: base.model, prompts: {{words: words.train}}}}}}\n",
            source.display()
        ));
    }
    let first = mini.run(&["run", "folder.yaml", "--json"]).expect(0);
    let second = mini.run(&["run", "file.yaml", "--json"]).expect(0);
    assert_eq!(first.outputs(), second.outputs());
    assert_eq!(second.verdicts()["embedded"], "hit");
    mini.run(&["get", "file.yaml", "base.model", "-o", "kept"]).expect(0);
    let image = |base: &str, out: &str| {
        let args = ["generate", "--base", base, "--prompt", "a", "--num-inference-steps", "1", "-j", "1", "-o", out];
        mini.run(&args).expect(0);
        std::fs::metadata(mini.path(out).join("0000.png")).unwrap();
        let bytes = std::fs::read(mini.path(out).join("0000.png")).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let digest = reader.info().utf8_text.iter().find(|t| t.keyword == "base_digest").unwrap().get_text().unwrap();
        (pixels, digest)
    };
    let file = single.join("model.safetensors").display().to_string();
    assert!(image("kept", "a") == image(&file, "b"), "the store's copy is another model");
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
