//! `opdflow generate`, through the real programs, against images that diffusers made.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

mod common;

use common::{TestSpace, files, finish, pid, signal, wait_until};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A PNG's pixels and texts.
fn read(path: &Path) -> ((u32, u32), Vec<u8>, BTreeMap<String, String>) {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let frame = reader.next_frame(&mut pixels).expect("a frame");
    assert_eq!((frame.color_type, frame.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    let info = reader.info();
    let texts = info.utf8_text.iter().map(|t| (t.keyword.clone(), t.get_text().expect("text"))).collect();
    ((info.width, info.height), pixels, texts)
}

/// Peak signal to noise ratio in decibels.
fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0_f64.powi(2) * a.len() as f64 / squares).log10()
}

fn arguments(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(at("tests/generate").join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A space whose working folder has the fixtures in it.
fn space() -> TestSpace {
    let space = TestSpace::new();
    for entry in std::fs::read_dir(at("tests/generate")).unwrap().flatten().filter(|e| e.path().is_dir()) {
        std::os::unix::fs::symlink(entry.path(), space.path(&entry.file_name().to_string_lossy())).unwrap();
    }
    space
}

fn mini<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["generate", "--base", "bundled:mini", "--num-inference-steps", "2", "-j", "1"];
    args.extend(more);
    args
}

#[test]
fn images_are_those_of_diffusers() {
    let space = space();
    for name in ["sharded", "pieces", "single"] {
        let args = arguments(name);
        let mut all = vec!["generate", "-o", name_of(name), "-j", "1"];
        all.extend(args.iter().map(String::as_str));
        let ran = space.run(&all).expect(0);
        let path = format!("{}/0000.png", name_of(name));
        assert_eq!(ran.stdout.trim(), path);
        let (size, ours, texts) = read(&space.path(&path));
        let (expected, theirs, _) = read(&at("tests/generate").join(format!("{name}.png")));
        assert_eq!(size, expected);
        let found = psnr(&ours, &theirs);
        println!("{name}: {found:.1} dB");
        assert!(found >= 45.0, "{name}: {found} dB");
        let given = |option: &str| &args[args.iter().position(|a| a == option).unwrap() + 1];
        for (text, option) in [
            ("prompt", "--prompt"),
            ("negative_prompt", "--negative-prompt"),
            ("seed", "--seed"),
            ("steps", "--num-inference-steps"),
        ] {
            assert_eq!(&texts[text], given(option), "{name}: {text}");
        }
        assert_eq!(texts["base_digest"].len(), 64);
        assert_eq!(texts["Software"], format!("opdflow {}", env!("CARGO_PKG_VERSION")));
    }
}

fn name_of(name: &str) -> &'static str {
    match name {
        "sharded" => "out/sharded",
        "pieces" => "out/pieces",
        _ => "out/single",
    }
}

/// The file itself as the base, and a download cache's root, give what the folder gives.
#[test]
fn a_base_is_found_as_a_file_and_in_a_cache() {
    let space = space();
    let cache = space.path("models--a--b");
    common::links(&at("tests/generate/single"), &cache.join("snapshots/0a1b"));
    std::fs::create_dir_all(cache.join("refs")).unwrap();
    std::fs::write(cache.join("refs/main"), "0a1b").unwrap();
    std::fs::create_dir(cache.join("snapshots/other")).unwrap();
    let expected = read(&at("tests/generate/single.png")).1;
    for (base, out) in [("single/model.safetensors", "file"), ("models--a--b", "cache")] {
        let mut args = arguments("single");
        let place = args.iter().position(|a| a == "--base").unwrap() + 1;
        args[place] = base.to_owned();
        let mut all = vec!["generate", "-o", out, "-j", "1"];
        all.extend(args.iter().map(String::as_str));
        space.run(&all).expect(0);
        let found = psnr(&read(&space.path(&format!("{out}/0000.png"))).1, &expected);
        assert!(found >= 45.0, "{base}: {found} dB");
    }
}

/// What a base lacks or has in another form is named with what to do; a T5 that is named and not there is no T5 left out.
#[test]
fn bases_that_are_not_whole_are_refused_with_the_way_out() {
    let space = space();
    let run = |base: &str, more: &[&str], code| {
        let mut all = vec![
            "generate",
            "-o",
            "out",
            "--overwrite",
            "--num-inference-steps",
            "1",
            "-j",
            "1",
            "--prompt",
            "a",
            "--base",
            base,
        ];
        all.extend(more);
        space.run(&all).expect(code).stderr
    };
    let with_t5 = ["sharded", "pieces"].into_iter().find(|name| {
        let text = std::fs::read_to_string(at("tests/generate").join(name).join("model_index.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["text_encoder_3"][1].is_string()
    });
    let with_t5 = at("tests/generate").join(with_t5.expect("a fixture with T5"));
    common::links(&with_t5, &space.path("no5"));
    std::fs::remove_dir_all(space.path("no5/text_encoder_3")).unwrap();
    let said = run("no5", &[], 2);
    assert!(said.contains("text_encoder_3") && said.contains("--no-t5"), "{said}");
    run("no5", &["--no-t5"], 0);
    // Weights in other forms.
    let transformer = |name: &str| {
        common::links(&with_t5, &space.path(name));
        for entry in std::fs::read_dir(space.path(name).join("transformer")).unwrap().flatten() {
            if entry.file_name() != "config.json" {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        space.path(name).join("transformer")
    };
    for (i, (file, bytes, says)) in [
        (
            "diffusion_pytorch_model.safetensors",
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"[..],
            "git lfs pull",
        ),
        ("diffusion_pytorch_model.bin", b"PK\x03\x04", "a pickle of PyTorch"),
        ("sd3.5-Q4.gguf", b"GGUF", "a GGUF file"),
        ("diffusion_pytorch_model-00001-of-00003.safetensors", b"", "of 3 shards"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("bad{i}");
        std::fs::write(transformer(&name).join(file), bytes).unwrap();
        let said = run(&name, &[], 2);
        assert!(said.contains(says), "{file}: {said}");
    }
    let header = br#"{"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}"#;
    let eight = [&(header.len() as u64).to_le_bytes()[..], header, &[0, 0]].concat();
    std::fs::write(transformer("eight").join("diffusion_pytorch_model.safetensors"), eight).unwrap();
    let said = run("eight", &[], 2);
    assert!(said.contains("F8_E4M3") && said.contains("8 bits"), "{said}");
    // A single file has no tokenizers.
    common::links(&at("tests/generate/single"), &space.path("alone"));
    std::fs::remove_dir_all(space.path("alone/tokenizer_2")).unwrap();
    let said = run("alone/model.safetensors", &[], 2);
    assert!(said.contains("tokenizer_2") && said.contains("a single file holds no tokenizers"), "{said}");
}

#[test]
fn many_images_and_a_sheet() {
    let space = TestSpace::new();
    space.write("p.txt", "a red circle\n\n{\"prompt\": \"a blue square\"}\n");
    let args = [
        "--prompts",
        "p.txt",
        "--prompt",
        "a star",
        "--num-images-per-prompt",
        "2",
        "--seed",
        "5",
        "-o",
        "out",
        "--json",
    ];
    let ran = space.run(&mini(&args)).expect(0);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let images = told["images"].as_array().unwrap();
    assert_eq!(images.len(), 6);
    assert_eq!((images[0]["prompt"].as_str(), images[1]["seed"].as_u64()), (Some("a star"), Some(6)));
    let (_, _, texts) = read(&space.path("out/0003.png"));
    assert_eq!((texts["prompt"].as_str(), texts["seed"].as_str()), ("a red circle", "6"));
    let ((width, height), _, _) = read(&space.path("out/sheet.png"));
    assert!(width < height, "three rows of two");
    // An image does not depend on those that it is made with.
    space.run(&mini(&["--prompt", "a red circle", "--seed", "6", "-o", "one"])).expect(0);
    let alone = read(&space.path("one/0000.png")).1;
    assert!(psnr(&alone, &read(&space.path("out/0003.png")).1) > 45.0);
    space
        .run(&mini(&[
            "--prompts",
            "p.txt",
            "--num-images-per-prompt",
            "2",
            "--seed",
            "5",
            "--batch",
            "4",
            "-o",
            "batch",
        ]))
        .expect(0);
    assert!(psnr(&alone, &read(&space.path("batch/0001.png")).1) > 45.0);
}

#[test]
fn asked_to_stop_it_stops_and_keeps_what_is_done() {
    let space = TestSpace::new();
    let child = space.start(&mini(&["--prompt", "a", "--num-images-per-prompt", "100000", "-o", "out"]));
    wait_until("an image is there", || space.path("out/00001.png").exists());
    signal(pid(&child), libc::SIGINT);
    let ran = finish(child).expect(130);
    assert!(ran.stdout.is_empty(), "{}", ran.stdout);
    let made = files(&space.path("out"));
    assert!(made.len() > 1 && made.len() < 100_000);
    // Each of them whole.
    made.iter().for_each(|path| drop(read(path)));
}

#[test]
fn nothing_is_replaced_without_a_word() {
    let space = TestSpace::new();
    space.run(&mini(&["--prompt", "a", "-o", "out"])).expect(0);
    let before = std::fs::read(space.path("out/0000.png")).unwrap();
    let ran = space.run(&mini(&["--prompt", "b", "-o", "out"])).expect(2);
    assert!(
        ran.stderr.contains("out/0000.png would be replaced") && ran.stderr.contains("--overwrite"),
        "{}",
        ran.stderr
    );
    assert_eq!(std::fs::read(space.path("out/0000.png")).unwrap(), before);
    space.run(&mini(&["--prompt", "b", "-o", "out", "--overwrite"])).expect(0);
    assert_ne!(std::fs::read(space.path("out/0000.png")).unwrap(), before);
}

#[test]
fn sixteen_bits_give_an_image() {
    let space = TestSpace::new();
    for (dtype, least) in [("f32", 45.0), ("bf16", 1.0), ("f16", 1.0)] {
        space.run(&mini(&["--prompt", "a red circle", "--dtype", dtype, "-o", dtype])).expect(0);
        let (_, pixels, texts) = read(&space.path(&format!("{dtype}/0000.png")));
        assert_eq!(texts["dtype"], dtype);
        let spread = pixels.iter().max().unwrap() - pixels.iter().min().unwrap();
        assert!(f64::from(spread) >= least, "{dtype}: an image of one colour");
    }
}

#[test]
fn faults_name_what_was_found_and_the_way_out() {
    let space = space();
    space.write("file", "x");
    std::fs::create_dir(space.path("other")).unwrap();
    space.write("other/model_index.json", r#"{"_class_name": "PixArtSigmaPipeline"}"#);
    space.write("bad.jsonl", "{\"prompt\": 1}\n");
    std::fs::create_dir(space.path("empty")).unwrap();
    let cases: [(&[&str], &[&str]); 13] = [
        (&["--base", "nowhere", "--prompt", "a"], &["nowhere is not there", "bundled:mini"]),
        (&["--base", "file", "--prompt", "a"], &["file is a file", "model_index.json", "not a readable safetensors"]),
        (&["--base", "bundled:maxi", "--prompt", "a"], &["nothing is bundled as `maxi`", "bundled:mini"]),
        (&["--base", "empty", "--prompt", "a"], &["no model_index.json here"]),
        (
            &["--base", "other", "--prompt", "a"],
            &["`_class_name` is PixArtSigmaPipeline", "StableDiffusion3Pipeline", "FluxPipeline"],
        ),
        (&["--base", "bundled:mini"], &["no prompt", "--prompts"]),
        (&["--base", "bundled:mini", "--prompts", "none.txt"], &["none.txt", "one prompt a line"]),
        (&["--base", "bundled:mini", "--prompts", "bad.jsonl"], &["bad.jsonl:1: no prompt", "`text`"]),
        (
            &["--base", "bundled:mini", "--prompt", "a", "--size", "33"],
            &["the width is 33, expected a multiple of", "is near"],
        ),
        (&["--base", "bundled:mini", "--prompt", "a", "--width", "100000"], &["the width is 100000", "or less"]),
        (&["--base", "bundled:mini", "--prompt", "a", "--lora", "none"], &["there is no adapter none", "peft"]),
        (
            &["--base", "bundled:mini", "--prompt", "a", "--lora", "file"],
            &["the adapter: file: not a readable safetensors"],
        ),
        (&["--base", "bundled:mini", "--prompt", "a", "--lora", "sharded.peft"], &["has shape [1, 24], expected [1, "]),
    ];
    for (args, says) in cases {
        let mut all = vec!["generate", "-o", "out", "--num-inference-steps", "1", "-j", "1"];
        all.extend(args);
        let ran = space.run(&all).expect(2);
        for words in says {
            assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
        }
        assert!(!space.path("out/0000.png").exists());
    }
    for (args, says) in [
        (&["--num-inference-steps", "0"][..], "from 1"),
        (&["--dtype", "int8"], "bf16"),
        (&["--device", "tpu"], "cuda:N"),
        (&["--max-sequence-length", "513"], "1 to 512"),
        (&["--guidance-scale", "nan"], "expected a number"),
    ] {
        let mut all = vec!["generate", "-o", "out", "--base", "bundled:mini", "--prompt", "a"];
        all.extend(args);
        let ran = space.run(&all).expect(2);
        assert!(ran.stderr.contains(says), "{args:?}: {}", ran.stderr);
    }
}
