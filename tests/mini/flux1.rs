//! FLUX.1 from end to end: the shipped recipe on a small random model that diffusers wrote, and what is refused. A second family
//! behind the same commands.

use crate::space::Mini;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn flow(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/models/tests").join(name).display().to_string()
}

fn shipped(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/flux1").join(name).display().to_string()
}

/// Red, green and blue of an image, without the words that the file carries.
fn pixels(path: PathBuf) -> Vec<u8> {
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap())).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_recipe_runs_and_its_student_is_read_in_every_form() {
    let mini = Mini::new();
    let (recipe, vars) = (shipped("multitask.yaml"), shipped("tiny.vars.yaml"));
    let ran = mini.run(&["run", &recipe, "--vars", &vars, "--json"]).expect(0);
    assert_eq!(ran.json()["stages"].as_object().unwrap().len(), 19, "{}", ran.stdout);
    let learned: BTreeSet<String> =
        ["best[task=looks]", "student"].map(|s| ran.outputs()[&format!("{s}.lora")].clone()).into();
    assert_eq!(learned.len(), 2, "each learned something of its own");
    let table = std::fs::read_to_string(mini.path(".opdflow/runs/latest/outputs/table1.md")).unwrap();
    for part in ["opd student", "looks teacher", "pickscore"] {
        assert!(table.contains(part), "no `{part}` in {table}");
    }
    let again = mini.run(&["plan", &recipe, "--vars", &vars, "--exit-code"]).expect(0);
    assert!(again.stdout.contains("nothing to do"), "{}", again.stdout);

    let base = flow("parity_flux/dev");
    let generate = |name: &str, more: &[&str]| {
        let plain = [
            "generate",
            "--base",
            &base,
            "--prompt",
            "a red circle",
            "--size",
            "64",
            "--num-inference-steps",
            "2",
            "-o",
            name,
        ];
        mini.run(&[&plain[..], more].concat()).expect(0);
        pixels(mini.path(name).join("0000.png"))
    };
    let mut images = Vec::new();
    for format in ["peft", "diffusers", "kohya", "comfyui"] {
        let name = format!("as_{format}");
        mini.run(&["get", &recipe, "--vars", &vars, "student.lora", "-o", &name, "--format", format]).expect(0);
        images.push(generate(&format!("of_{format}"), &["--lora", &name]));
    }
    let config: Value =
        serde_json::from_slice(&std::fs::read(mini.path("as_peft/adapter_config.json")).unwrap()).unwrap();
    assert_eq!(config["r"], 2);
    assert!(images.iter().all(|p| *p == images[0]), "one adapter, four forms, one image");
    // The guidance of FLUX.1-dev is an input of the network, 3.5 where nobody says otherwise.
    let plain = generate("plain", &[]);
    assert!(
        plain == generate("own", &["--guidance-scale", "3.5"])
            && plain != generate("other", &["--guidance-scale", "1"])
    );

    // An adapter of one family on a base of the other.
    let tiny = ["--prompt", "x", "--size", "64", "--num-inference-steps", "1", "-o", "none"];
    let refused = |base: &str, lora: &str| {
        mini.run(&[&["generate", "--base", base, "--lora", lora][..], &tiny].concat()).expect(2).stderr
    };
    for format in ["peft", "diffusers", "kohya", "comfyui"] {
        let says = refused("bundled:mini", &format!("as_{format}"));
        // diffusers' names of the single blocks are another family's too.
        let whose = if ["peft", "diffusers"].contains(&format) { "FLUX.1 or AuraFlow" } else { "FLUX.1" };
        let expected = format!("is a layer of {whose}, and the base is Stable Diffusion 3");
        assert!(says.contains(&expected), "{format}: {says}");
    }
    let says = refused(&base, &flow("adapters/kohya.safetensors"));
    assert!(says.contains("is a layer of Stable Diffusion 3 and 3.5, and the base is FLUX.1"), "{says}");
}

#[test]
fn what_flux_cannot_do_is_refused_by_name() {
    let mini = Mini::new();
    let base = flow("parity_flux/dev");
    let refused = |base: &str, more: &[&str]| {
        let plain = ["generate", "--base", base, "--prompt", "x", "--num-inference-steps", "1", "-o", "none"];
        mini.run(&[&plain[..], more].concat()).expect(2).stderr
    };
    for (more, says) in [
        (&["--size", "64", "--no-t5"][..], "`--no-t5`: models of FLUX.1 cannot do without that encoder"),
        (&["--size", "72"], "expected a multiple of 16"),
        (
            &["--size", "64", "--guidance-scale=-2"],
            "the guidance is -2, and this model of FLUX.1 takes a number from 0",
        ),
        (&["--size", "64", "--negative-prompt", "y"], "reads no negative prompt"),
    ] {
        let found = refused(&base, more);
        assert!(found.contains(says), "no `{says}` in {found}");
    }
    // Black Forest Labs' own file, which lies beside the folders of the download.
    let names = flow("parity_flux/kohya.safetensors");
    let found = refused(&names, &["--size", "64"]);
    assert!(found.contains("is a single file of FLUX.1, and FLUX.1 is read from a folder"), "{found}");

    crate::common::links(Path::new(&base), &mini.path("folder"));
    let index = std::fs::read_to_string(Path::new(&base).join("model_index.json")).unwrap();
    std::fs::remove_file(mini.path("folder/model_index.json")).unwrap();
    mini.write("folder/model_index.json", &index.replace("\"FluxPipeline\"", "\"PixArtSigmaPipeline\""));
    let recipe = |source: &str, lora: &str| {
        format!(
            "opdflow: 1\nname: own\nseed: 3\nstages:\n  base: {{uses: base_model, with: {{source: \"{source}\"}}}}\n  lora: {{uses: \
             import_lora, needs: {{base: base.model}}, with: {{source: \"{lora}\"}}}}\n"
        )
    };
    let check = |text: &str| {
        mini.write("r.yaml", text);
        mini.run(&["check", "r.yaml"]).expect(2).stderr
    };
    let found = check(&recipe("./folder", &flow("parity_flux/lora")));
    for part in ["`_class_name` is PixArtSigmaPipeline", "FluxPipeline (FLUX.1)", "StableDiffusion3Pipeline"] {
        assert!(found.contains(part), "no `{part}` in {found}");
    }
    let found = check(&recipe(&base, &flow("adapters/kohya.safetensors")));
    assert!(found.contains("is a layer of Stable Diffusion 3 and 3.5, but the base is a model of FLUX.1"), "{found}");
    let found = check(&recipe("bundled:mini", &flow("parity_flux/lora_single.safetensors")));
    let expected = "is a layer of FLUX.1 or AuraFlow, but the base is a model of Stable Diffusion 3";
    assert!(found.contains(expected), "{found}");
}

/// Adapters of other programs come in, are used with the prompts that were encoded once, and trained on from.
#[test]
fn adapters_come_in_in_every_form_and_prompts_are_encoded_once() {
    let mini = Mini::new();
    mini.write("words.txt", "a sign that says \"cat\"\n");
    let forms =
        ["lora", "lora_single.safetensors", "kohya.safetensors", "comfyui.safetensors", "onetrainer.safetensors"];
    let mut text = format!(
        "opdflow: 1\nname: own\nseed: 3\nstages:\n  base: {{uses: base_model, with: {{source: \"{}\"}}}}\n  words: {{uses: prompts, \
         with: {{files: {{train: words.txt}}}}}}\n  encoded: {{uses: embed, needs: {{base: base.model, prompts: {{a: \
         words.train}}}}}}\n",
        flow("parity_flux/dev")
    );
    for (i, form) in forms.iter().enumerate() {
        text += &format!(
            "  lora{i}: {{uses: import_lora, needs: {{base: base.model}}, with: {{source: \"{}\"}}}}\n  scores{i}: {{uses: \
             evaluate, needs: {{base: base.model, lora: lora{i}.lora, prompts: {{ocr: words.train}}, embeddings: \
             encoded.embeddings}}, with: {{size: 32, sampling: {{num_inference_steps: 2, guidance_scale: 3.5}}, rewards: {{ocr: [ocr]}}}}}}\n",
            flow(&format!("parity_flux/{form}"))
        );
    }
    mini.write("own.yaml", &text);
    let ran = mini.run(&["run", "own.yaml", "--json"]).expect(0);
    let images = |i: usize| ran.outputs()[&format!("scores{i}.images")].clone();
    let different: BTreeSet<String> = (0..forms.len()).map(images).collect();
    assert!(different.len() >= 4, "five adapters of which diffusers' file is peft's: {different:?}");
}
