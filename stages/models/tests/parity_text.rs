//! Tokenizers, prompt embedding and the whole pipeline against transformers and diffusers.

mod common;
#[path = "parity/place.rs"]
mod place;

use common::within;
use opdflow_models::base_files::BaseFiles;
use opdflow_models::condition::Condition;
use opdflow_models::families::{self, sd3::Sd3Folder};
use opdflow_models::network::Options;
use opdflow_models::text::tokenizer::Tokenizer;
use opdflow_models::weights::read_tensors;
use place::{allowed, at, device};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tch::{Kind, Tensor};

#[derive(serde::Deserialize)]
struct Row {
    folder: String,
    length: usize,
    prompts: Vec<String>,
    ids: Vec<Vec<i64>>,
}

fn fixture(name: &str) -> BTreeMap<String, Tensor> {
    read_tensors(at(name), device(), None).unwrap().0
}

fn options() -> Options {
    Options { device: device(), ..Options::default() }
}

fn folder() -> Sd3Folder {
    Sd3Folder::of(BaseFiles::of(&at("pipeline")).unwrap(), None).unwrap()
}

fn context(condition: &Condition) -> &Tensor {
    condition.tensor("context").unwrap()
}

fn pooled(condition: &Condition) -> &Tensor {
    condition.tensor("pooled").unwrap()
}

fn rows() -> Vec<Row> {
    serde_json::from_str(&std::fs::read_to_string(at("tokens.json")).unwrap()).unwrap()
}

#[track_caller]
fn close(what: &str, found: &Tensor, expected: &Tensor, limit: f64) {
    within(what, found, expected, allowed(limit, expected));
}

#[test]
fn token_ids() {
    for row in rows() {
        let folder = at("pipeline").join(&row.folder);
        let tokenizer =
            if row.folder == "tokenizer_3" { Tokenizer::t5(folder) } else { Tokenizer::clip(folder) }.unwrap();
        let found = tokenizer.ids(&row.prompts, row.length).unwrap();
        for (i, (prompt, ids)) in row.prompts.iter().zip(&row.ids).enumerate() {
            let found: Vec<i64> = Vec::try_from(found.get(i as i64)).unwrap();
            assert_eq!(&found, ids, "{}: {prompt:?}", row.folder);
        }
        assert!(tokenizer.encode("a", 0).is_err());
    }
}

#[test]
fn prompts() {
    let f = fixture("prompts.safetensors");
    let prompts = &rows()[0].prompts;
    let folder = folder();
    let text = folder.encoders(options()).unwrap();
    let all = text.embed(prompts, 16).unwrap();
    close("context", context(&all), &f["context"], 1e-5);
    close("pooled", pooled(&all), &f["pooled"], 1e-5);
    // What is asked for is given, as upstream; a caller who does not care keeps to the tokenizer's model_max_length.
    assert_eq!(context(&text.embed(&["a"], 256).unwrap()).size()[1], 24 + 256);
    assert_eq!((text.t5_length(256), text.t5_length(20)), (32, 20));
    assert!(text.embed::<&str>(&[], 16).unwrap().is_empty());
    let without = folder.encoders(Options { drop_t5: true, ..options() }).unwrap().embed(prompts, 16).unwrap();
    close("context without T5", context(&without), &f["context_without_t5"], 1e-5);
    close("pooled without T5", pooled(&without), &f["pooled"], 1e-5);
}

#[test]
fn a_prompt_is_the_same_bytes_alone_and_among_others() {
    for kind in [Kind::Float, Kind::BFloat16] {
        let text = folder().encoders(Options { kind, ..options() }).unwrap();
        let prompts: Vec<String> = (0..9).map(|i| format!("{} a photo of {i} red apples", "very ".repeat(i))).collect();
        let all = text.embed(&prompts, 32).unwrap();
        for (i, prompt) in (0..).zip(&prompts) {
            let one = text.embed(&[prompt], 32).unwrap();
            assert!(context(&one).equal(&context(&all).narrow(0, i, 1)), "{kind:?} {prompt:?}");
            assert!(pooled(&one).equal(&pooled(&all).narrow(0, i, 1)), "{kind:?} {prompt:?}");
        }
    }
}

/// Eight Euler steps with guidance 4.5, by the sigmas that diffusers used, then the decoder.
#[test]
fn end_to_end() {
    let f = fixture("end_to_end.safetensors");
    let folder = folder();
    let text = folder.encoders(options()).unwrap();
    let (transformer, _) = folder.transformer(device(), Kind::Float).unwrap();
    let vae = folder.vae(device()).unwrap();
    let _guard = tch::no_grad_guard();
    // In batches of two, as the library did.
    let two = |prompts: &[String]| text.encode(&text.tokens(prompts, 16).unwrap()).unwrap();
    let (no, yes) = (two(&[String::new(), String::new()]), two(&rows()[0].prompts[..2]));
    let both = Condition::cat(&[&no, &yes]);
    let sigmas: Vec<f32> = Vec::try_from(f["sigmas"].to_device(tch::Device::Cpu)).unwrap();
    let mut x = f["latents"].copy();
    for (i, pair) in sigmas.windows(2).enumerate() {
        let t = f["timesteps"].get(i as i64).expand([4], false);
        let v = transformer.forward(&Tensor::cat(&[&x, &x], 0), &t, context(&both), pooled(&both), None).chunk(2, 0);
        let v = &v[0] + (&v[1] - &v[0]) * 4.5;
        x += v * (pair[1] as f64 - pair[0] as f64);
        if i == 0 {
            close("latent after one step", &x, &f["first"], 1e-5);
        }
    }
    close("final latent", &x, &f["final"], 1e-5);
    let images = (vae.decode(&vae.unscale(&x)) * 0.5 + 0.5).clamp(0.0, 1.0);
    close("images", &images, &f["pictures"], 1e-5);
}

/// Ids of the published vocabularies on the published prompt sets, where they lie beside the checkout or where
/// `OPDFLOW_PUBLISHED` says. The hashes are of what transformers 5.23.0 gives.
#[test]
fn published_vocabularies() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let shared = PathBuf::from(std::env::var("OPDFLOW_PUBLISHED").unwrap_or_else(|_| beside.into()));
    let (vocabularies, sets) = (shared.join("tokenizers"), shared.join("prompts"));
    if !vocabularies.is_dir() || !sets.is_dir() {
        println!("skipped: no tokenizers and prompts in {}; OPDFLOW_PUBLISHED names another folder", shared.display());
        return;
    }
    let mut prompts = Vec::new();
    for name in ["ocr_test.txt", "drawbench.txt", "pickapic_sfw_test.txt"] {
        let text = std::fs::read_to_string(sets.join(name)).unwrap();
        prompts.extend(text.split('\n').filter(|l| !l.is_empty()).map(str::to_string));
    }
    for line in
        std::fs::read_to_string(sets.join("geneval_test.jsonl")).unwrap().lines().filter(|l| !l.trim().is_empty())
    {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        prompts.push(line["prompt"].as_str().unwrap().to_string());
    }
    for (tokenizer, length, expected) in [
        (Tokenizer::clip(vocabularies.join("clip")).unwrap(), 77, include_str!("parity/published_clip.txt")),
        (Tokenizer::t5(vocabularies.join("t5")).unwrap(), 256, include_str!("parity/published_t5.txt")),
    ] {
        let ids: Vec<i64> = Vec::try_from(tokenizer.ids(&prompts, length).unwrap().view(-1)).unwrap();
        let hash = ids.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, id| (h ^ *id as u64).wrapping_mul(0x100_0000_01b3));
        assert_eq!(format!("{} {hash:016x}", prompts.len()), expected.trim());
    }
}

#[test]
fn broken_folders_are_explained() {
    let copy = |without: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut stack = vec![at("pipeline")];
        while let Some(from) = stack.pop() {
            for entry in std::fs::read_dir(&from).unwrap() {
                let path = entry.unwrap().path();
                let inside = path.strip_prefix(at("pipeline")).unwrap();
                if inside == std::path::Path::new(without) {
                    continue;
                }
                if path.is_dir() {
                    std::fs::create_dir(dir.path().join(inside)).unwrap();
                    stack.push(path);
                } else {
                    std::fs::write(dir.path().join(inside), std::fs::read(&path).unwrap()).unwrap();
                }
            }
        }
        dir
    };
    let load = |dir: &tempfile::TempDir, options: Options| {
        let folder = families::open(dir.path(), None)?;
        folder.architecture()?;
        folder.text(options)?;
        folder.network(options.device, options.kind)?;
        folder.autoencoder(options.device).map(drop)
    };
    let fails = |dir: &tempfile::TempDir| match load(dir, Options::default()) {
        Ok(()) => panic!("loaded"),
        Err(e) => format!("{e:#}"),
    };
    for (without, says) in [
        ("model_index.json", "no model_index.json here"),
        ("vae", "the part `vae` (AutoencoderKL) is absent"),
        ("transformer/config.json", "transformer/config.json"),
        ("transformer/diffusion_pytorch_model.safetensors", "no weights here"),
        ("tokenizer_2/tokenizer.json", "neither tokenizer.json nor vocab.json"),
        ("tokenizer_3/tokenizer.json", "neither tokenizer.json nor spiece.model here"),
    ] {
        let error = fails(&copy(without));
        assert!(error.contains(says), "without {without}: {error}");
    }
    // A T5 that the folder names and lacks is not one that was left out: that is for the caller to say.
    let without = copy("text_encoder_3");
    let error = fails(&without);
    assert!(error.contains("the part `text_encoder_3`") && error.contains("--no-t5"), "{error}");
    assert!(load(&without, Options { drop_t5: true, ..Options::default() }).is_ok());
    let edit = |file: &str, from: &str, to: &str| {
        let dir = copy("");
        let path = dir.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
        fails(&dir)
    };
    for (file, from, to, says) in [
        (
            "transformer/config.json",
            "\"rms_norm\"",
            "\"layer_norm\"",
            "`qk_norm` is layer_norm, supported: null, \"rms_norm\"",
        ),
        (
            "transformer/config.json",
            "\"num_layers\": 3",
            "\"num_layers\": 4",
            "tensor `transformer_blocks.2.norm1_context.linear.weight` has shape [64, 32], expected [192, 32]",
        ),
        ("vae/config.json", "\"silu\"", "\"mish\"", "`act_fn` is mish"),
        ("text_encoder_3/config.json", "\"gated-gelu\"", "\"gated-tanh\"", "`feed_forward_proj` is gated-tanh"),
        ("text_encoder/config.json", "\"quick_gelu\"", "\"selu\"", "text_encoder/config.json"),
        (
            "scheduler/scheduler_config.json",
            "\"use_karras_sigmas\": false",
            "\"use_karras_sigmas\": true",
            "`use_karras_sigmas`",
        ),
    ] {
        let error = edit(file, from, to);
        assert!(error.contains(says), "{file}: {error}");
    }
    let dir = copy("");
    let path = dir.path().join("vae/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let error = fails(&dir);
    assert!(error.contains("cut off") && error.contains("vae"), "{error}");
}
