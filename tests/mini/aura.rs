//! AuraFlow from end to end on a small random model that diffusers wrote: images, a teacher and a student of it, and what is
//! refused. The third family behind the same commands.

use crate::space::Mini;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/models/tests").join(name).display().to_string()
}

/// Red, green and blue of an image, without the words that the file carries.
fn pixels(path: PathBuf) -> Vec<u8> {
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap())).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut bytes).unwrap();
    bytes
}

fn recipe(base: &str, lora: &str) -> String {
    format!(
        "opdflow: 1
name: aura
seed: 3
stages:
  base: {{uses: base_model, with: {{source: \"{base}\"}}}}
  words: {{uses: prompts, with: {{task: geneval, train: 4, validation: 0, test: 2}}}}
  teacher: {{uses: import_lora, needs: {{base: base.model}}, with: {{source: \"{lora}\"}}}}
  student:
    uses: distill
    needs: {{base: base.model, teachers: {{geneval: teacher.lora}}, prompts: {{geneval: words.train}}}}
    with: {{rounds: 1, size: 64, rollout: {{num_inference_steps: 2, prompts: 2}}, lora: {{rank: 2, alpha: 4}}}}
  scores:
    uses: evaluate
    needs: {{base: base.model, lora: student.lora, prompts: {{geneval: words.test}}}}
    with: {{size: 64, sampling: {{num_inference_steps: 2}}, rewards: {{geneval: [looks]}}}}
"
    )
}

#[test]
fn a_student_is_trained_and_makes_images_in_every_form() {
    let mini = Mini::new();
    let base = fixture("parity_aura/pipeline");
    mini.write("r.yaml", &recipe(&base, &fixture("parity_aura/lora")));
    let plan = mini.run(&["plan", "r.yaml", "--json"]).expect(0).json();
    let memory = |stage: &str| {
        let stages = plan["stages"].as_array().unwrap();
        stages.iter().find(|s| s["stage"] == stage).unwrap()["memory"].as_array().unwrap().len()
    };
    assert!(memory("student") > 0 && memory("scores") > 0, "{plan}");
    mini.run(&["run", "r.yaml"]).expect(0);
    let generate = |name: &str, more: &[&str]| {
        let plain = ["generate", "--base", &base, "--prompt", "a red circle", "--size", "64", "-o", name];
        mini.run(&[&plain[..], &["--num-inference-steps", "2"], more].concat()).expect(0);
        pixels(mini.path(name).join("0000.png"))
    };
    let mut images = Vec::new();
    for format in ["peft", "diffusers", "comfyui"] {
        let name = format!("as_{format}");
        mini.run(&["get", "r.yaml", "student.lora", "-o", &name, "--format", format]).expect(0);
        images.push(generate(&format!("of_{format}"), &["--lora", &name]));
    }
    assert!(images.iter().all(|p| *p == images[0]), "one adapter, three forms, one image");
    let config = std::fs::read_to_string(mini.path("as_peft/adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 8, "the family's own targets: {config}");
    let said = mini.run(&["get", "r.yaml", "student.lora", "-o", "k", "--format", "kohya"]).expect(2).stderr;
    assert!(said.contains("sd-scripts trains no adapters of this family"), "{said}");
    // The guidance is 3.5 where nobody says otherwise, and classifier-free.
    let plain = generate("plain", &[]);
    assert!(
        plain == generate("own", &["--guidance-scale", "3.5"]) && plain != generate("none", &["--guidance-scale", "1"])
    );
    assert!(plain != generate("not", &["--negative-prompt", "a blue square"]));
    assert!(plain != images[0]);
}

#[test]
fn what_is_another_family_s_or_not_there_is_refused_by_name() {
    let mini = Mini::new();
    let base = fixture("parity_aura/pipeline");
    let check = |base: &str, lora: &str| {
        mini.write("r.yaml", &recipe(base, lora));
        mini.run(&["check", "r.yaml"]).expect(2).stderr
    };
    for (base, lora, says) in [
        (&base, "parity_flux/kohya.safetensors", "is a layer of FLUX.1, but the base is a model of AuraFlow"),
        (
            &base,
            "adapters/kohya.safetensors",
            "is a layer of Stable Diffusion 3 and 3.5, but the base is a model of AuraFlow",
        ),
        (&fixture("parity_flux/dev"), "parity_aura/lora", "is a layer of AuraFlow, but the base is a model of FLUX.1"),
        (&"bundled:mini".to_owned(), "parity_aura/lora", "is a layer of AuraFlow, but the base is a model of Stable"),
    ] {
        let found = check(base, &fixture(lora));
        assert!(found.contains(says), "no `{says}` in {found}");
    }
    let refused = |base: &str, more: &[&str]| {
        let plain = ["generate", "--base", base, "--prompt", "x", "--num-inference-steps", "1", "-o", "none"];
        mini.run(&[&plain[..], more].concat()).expect(2).stderr
    };
    for (more, says) in [
        (&["--size", "64", "--no-t5"][..], "`--no-t5`: models of AuraFlow cannot do without that encoder"),
        (&["--size", "72"], "expected a multiple of 16"),
        (&["--size", "144"], "128"),
    ] {
        let found = refused(&base, more);
        assert!(found.contains(says), "no `{says}` in {found}");
    }
    let found = refused(&fixture("parity_aura/comfyui.safetensors"), &["--size", "64"]);
    assert!(found.contains("is a single file of AuraFlow, and AuraFlow is read from a folder"), "{found}");
}
