//! AuraFlow against diffusers, transformers and peft: the fixtures of `parity_aura/make_fixtures.py`. Its modules one by one are
//! checked beside their code (`src/families/aura/tests.rs`).
#![allow(missing_docs)]

mod common;

use common::{largest, same_images, within};
use opdflow_models::config::read_json;
use opdflow_models::families;
use opdflow_models::families::aura::{At, Aura, AuraFolder};
use opdflow_models::lora::Lora;
use opdflow_models::network::{Input, Options};
use opdflow_models::schedule::SchedulerConfig;
use opdflow_models::weights::{Weights, read_tensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// What a gradient may differ by, in parts of its largest value: kernels of processors round otherwise.
const GRADIENT: f64 = 5e-5;
const CPU: Device = Device::Cpu;
type Tensors = BTreeMap<String, Tensor>;

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity_aura").join(name)
}

fn fixture(name: &str) -> Tensors {
    read_tensors(at(name), CPU, None).unwrap().0
}

fn open(folder: &Path) -> anyhow::Result<AuraFolder> {
    AuraFolder::of(opdflow_models::base_files::BaseFiles::of(folder)?, None)
}

/// To a limit in parts of the largest value.
#[track_caller]
fn close(what: &str, found: &Tensor, expected: &Tensor, limit: f64) {
    within(what, found, expected, limit * largest(expected));
}

fn network(kind: Kind) -> (Aura, Weights) {
    let folder = at("pipeline/transformer");
    let weights = Weights::load(&folder, CPU, kind).unwrap();
    let aura = Aura::new(&weights.root(), &read_json(&folder.join("config.json")).unwrap()).unwrap();
    weights.expect_all_used(|_| false).unwrap();
    (aura, weights)
}

fn inputs(f: &Tensors) -> At<'_> {
    At { latent: &f["latent"], time: &f["sigma"], context: &f["context"] }
}

#[test]
fn the_velocity_with_all_gradients() {
    let (f, (aura, weights)) = (fixture("velocity.safetensors"), network(Kind::Float));
    weights.set_trainable(true, |_| true);
    let _ = f["latent"].set_requires_grad(true);
    let out = aura.forward(inputs(&f), None);
    close("velocity", &out, &f["out"], 1e-5);
    (out - &f["target"]).square().mean(Kind::Float).backward();
    close("gradient of the latent", &f["latent"].grad(), &f["grad_latent"], 1e-5);
    let trained = weights.trainable();
    assert_eq!(trained.len(), f.keys().filter(|k| k.starts_with("grad.")).count());
    for (name, t) in trained {
        close(&name, &t.grad(), &f[&format!("grad.{name}")], GRADIENT);
    }
}

#[test]
fn a_recomputed_gradient_is_the_same() {
    let (f, (aura, weights)) = (fixture("lora_out.safetensors"), network(Kind::Float));
    let lora = Lora::load(at("lora"), &aura.linears(), CPU).unwrap();
    lora.set_trainable(true);
    weights.set_trainable(true, |_| true);
    let take = || -> Tensors {
        let every = weights.tensors().into_iter().chain(lora.named());
        every
            .map(|(name, t)| {
                let own = t.grad().copy();
                let _ = t.grad().zero_();
                (name, own)
            })
            .collect()
    };
    let out = aura.forward(inputs(&f), Some(&lora));
    (&out - &f["target"]).square().mean(Kind::Float).backward();
    let direct = take();
    let (again, tape) = aura.forward_taped(inputs(&f), Some(&lora));
    assert!(again == out && !again.requires_grad());
    let leaf = again.set_requires_grad(true);
    (&leaf - &f["target"]).square().mean(Kind::Float).backward();
    aura.backward(tape, &leaf.grad(), Some(&lora));
    let taped = take();
    assert_eq!(direct.len(), taped.len());
    for (name, grad) in &direct {
        close(name, &taped[name], grad, 1e-6);
        assert!(largest(grad) > 0.0, "{name} has no gradient");
    }
}

#[test]
fn an_adapter_of_peft_gives_its_velocity_and_gradients() {
    let (f, (aura, _weights)) = (fixture("lora_out.safetensors"), network(Kind::Float));
    close("without the adapter", &aura.forward(inputs(&f), None), &f["base"], 1e-5);
    let lora = Lora::load(at("lora"), &aura.linears(), CPU).unwrap();
    assert_eq!((lora.config().rank, lora.config().alpha), (2, 4.0));
    lora.set_trainable(true);
    let out = aura.forward(inputs(&f), Some(&lora));
    close("with peft's adapter: velocity", &out, &f["out"], 1e-5);
    assert!(largest(&(&f["out"] - &f["base"])) > 1e-2, "the adapter changes nothing");
    (out - &f["target"]).square().mean(Kind::Float).backward();
    let named = lora.named();
    assert_eq!(named.len(), 2 * (2 * 8 + 2 * 4));
    assert_eq!(named.len(), f.keys().filter(|k| k.starts_with("grad.")).count());
    for (name, t) in named {
        close(&name, &t.grad(), &f[&format!("grad.{name}")], GRADIENT);
    }
}

#[test]
fn the_network_in_bfloat16_stays_near() {
    let (f, (aura, _weights)) = (fixture("lora_out.safetensors"), network(Kind::BFloat16));
    let lora = Lora::load(at("lora"), &aura.linears(), CPU).unwrap();
    let out = aura.forward(inputs(&f), Some(&lora));
    assert_eq!(out.kind(), Kind::Float);
    close("bfloat16: velocity", &out, &f["out"], 0.1);
}

#[derive(serde::Deserialize)]
struct Levels {
    shift: f64,
    steps: usize,
    sigmas: Vec<f64>,
}

#[test]
fn noise_levels_are_the_scheduler_s() {
    let rows: Vec<Levels> = read_json(&at("sigmas.json")).unwrap();
    assert!(rows.len() > 20);
    let mut most: f64 = 0.0;
    for row in &rows {
        let scheduler = SchedulerConfig { shift: row.shift, ..SchedulerConfig::default() };
        scheduler.check_static().unwrap();
        let found = scheduler.schedule(row.steps);
        assert_eq!(found.sigmas().len(), row.sigmas.len());
        for (found, expected) in found.sigmas().iter().zip(&row.sigmas) {
            let (shift, steps) = (row.shift, row.steps);
            most = most.max((found - expected).abs());
            assert!((found - expected).abs() < 1e-6, "shift {shift}, {steps} steps: {found} {expected}");
        }
    }
    println!("{} tables of noise levels: max |difference| {most:.1e}", rows.len());
}

#[test]
fn prompts_as_the_pipeline_encodes_them() {
    let f = fixture("text.safetensors");
    let prompts: Vec<String> = read_json(&at("prompts.json")).unwrap();
    let text = open(&at("pipeline")).unwrap().encoder(CPU, Kind::Float).unwrap();
    let all = text.embed(&prompts, 16).unwrap();
    close("prompts: context", all.tensor("context").unwrap(), &f["context"], 1e-5);
    close("the empty prompt", text.embed(&[""], 16).unwrap().tensor("context").unwrap(), &f["none"], 1e-5);
    let tokens = text.tokens(&prompts, 16).unwrap();
    // The words of the token that fills up are tokens like others.
    assert!(*tokens.tensor("mask").unwrap() == f["mask"]);
    let pad = i64::from(text.tokenizer.pad());
    let (ids, mask) = (tokens.tensor("ids").unwrap(), tokens.tensor("mask").unwrap());
    assert!((ids.eq(pad) * mask).sum(Kind::Int64).int64_value(&[]) > 0, "no prompt holds the token that fills up");
    // A batch is what each is alone, and a prompt is the same bytes alone and among others.
    close("in one batch", text.encode(&tokens).unwrap().tensor("context").unwrap(), &f["context"], 1e-5);
    let one = text.embed(&prompts[1..2], 16).unwrap();
    assert!(*one.tensor("context").unwrap() == all.tensor("context").unwrap().narrow(0, 1, 1));
    assert_eq!((text.length(None), text.length(Some(20))), (32, 20));
    let long = prompts.iter().filter(|p| text.tokenizer.encode(p, usize::MAX).unwrap().len() > 16).count();
    assert_eq!((text.cut(prompts.iter().map(String::as_str), 16).unwrap(), long > 0), (long, true));
    assert!(text.embed::<&str>(&[], 16).unwrap().is_empty());
    assert!(text.embed(&["a"], 0).unwrap_err().to_string().contains("no room"));
}

/// Euler steps with the folder's noise levels and guidance, then the decoder, through the traits that all families share, against
/// `AuraFlowPipeline`.
#[test]
fn the_whole_pipeline() {
    let f = fixture("end_to_end.safetensors");
    let prompts: Vec<String> = read_json(&at("prompts.json")).unwrap();
    let folder = families::open(at("pipeline"), None).unwrap();
    let text = folder.text(Options::default()).unwrap();
    let ((network, _weights), vae) = (folder.network(CPU, Kind::Float).unwrap(), folder.autoencoder(CPU).unwrap());
    let _guard = tch::no_grad_guard();
    let prompts: Vec<&str> = prompts[..2].iter().map(String::as_str).collect();
    let condition = text.embed(&prompts, Some(16)).unwrap();
    let none = text.embed(&["", ""], Some(16)).unwrap();
    network.takes(&condition).unwrap();
    let model = network.architecture();
    let mut x = f["latent"].copy();
    let latent = model.latent(8 * x.size()[2], 8 * x.size()[3]).unwrap();
    assert_eq!(latent[..], x.size()[1..]);
    let schedule = model.schedule(6, latent);
    for j in 0..6 {
        let sigma = Tensor::full([2], schedule.sigma(j), (Kind::Float, CPU));
        let ask = |condition| network.velocity(&Input { state: &x, sigma: &sigma, condition, guidance: None }, None);
        let (with, without) = (ask(&condition), ask(&none));
        let v = &without + (with - &without) * model.guidance();
        x += v * (schedule.sigma(j + 1) - schedule.sigma(j));
        if j == 0 {
            close("latent after one step", &x, &f["first"], 1e-5);
        }
    }
    close("last latent", &x, &f["final"], 1e-5);
    let images = (vae.decode(&x) * 0.5 + 0.5).clamp(0.0, 1.0);
    close("images", &images, &f["pictures"], 1e-5);
    same_images("whole pipeline", &images, &f["pictures"]);
}

/// A network over weights that the caller has, as training from nothing makes them, is the one that is loaded.
#[test]
fn parts_over_weights_of_the_caller() {
    let folder = families::open(at("pipeline"), None).unwrap();
    let own = |part: &str| Weights::load(at("pipeline").join(part), CPU, Kind::Float).unwrap();
    let (transformer, encoder) = (own("transformer"), own("text_encoder"));
    let by_name = |part: &str| match part {
        "transformer" => Some(&transformer),
        "text_encoder" => Some(&encoder),
        _ => None,
    };
    let (network, text) = folder.fresh(&by_name).unwrap();
    let condition = text.embed(&["a photo of a red circle"], None).unwrap();
    assert_eq!(condition.tensor("context").unwrap().size(), [1, 32, 40], "as far as the tokenizer goes");
    let (state, sigma) = (Tensor::randn([1, 4, 4, 4], (Kind::Float, CPU)), Tensor::from_slice(&[0.5f32]));
    let input = Input { state: &state, sigma: &sigma, condition: &condition, guidance: None };
    let loaded = folder.network(CPU, Kind::Float).unwrap().0.velocity(&input, None);
    assert!(tch::no_grad(|| network.velocity(&input, None)) == loaded);
    let u = network.levels(&Tensor::from_slice(&[1.0f32, 0.5, 0.0]), [4, 4, 4]);
    assert!((&u - Tensor::from_slice(&[1.0f32, 1.73 * 0.5 / 1.365, 0.0])).abs().max().double_value(&[]) < 1e-6);
}

/// A copy of the folder with one word of one file changed.
fn edited(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut folders = vec![PathBuf::new()];
    while let Some(inside) = folders.pop() {
        std::fs::create_dir_all(dir.path().join(&inside)).unwrap();
        for entry in std::fs::read_dir(at("pipeline").join(&inside)).unwrap() {
            let entry = entry.unwrap();
            let name = inside.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(name);
            } else {
                std::fs::copy(entry.path(), dir.path().join(name)).unwrap();
            }
        }
    }
    let path = dir.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    std::fs::write(path, text.replace(from, to)).unwrap();
    dir
}

/// What puts an end behind a single prompt.
const END: &str = "},\n      {\n        \"SpecialToken\": {\n          \"id\": \"</s>\",\n          \"type_id\": 0\n        }\n      }\n    \
                   ],\n    \"pair\"";

#[test]
fn broken_folders_are_explained() {
    let load = |dir: &Path| {
        let folder = open(dir)?;
        folder.model()?;
        folder.encoder(CPU, Kind::Float)?;
        folder.transformer(CPU, Kind::Float)?;
        folder.vae(CPU)
    };
    for (file, from, to, says) in [
        ("model_index.json", "\"AuraFlowPipeline\"", "\"FluxPipeline\"", "`_class_name` is FluxPipeline"),
        ("model_index.json", "\"UMT5EncoderModel\"", "\"T5EncoderModel\"", "`text_encoder` is T5EncoderModel"),
        ("model_index.json", "\"T5Tokenizer\"", "\"CLIPTokenizer\"", "`tokenizer` is CLIPTokenizer"),
        ("transformer/config.json", "\"patch_size\": 2", "\"patch_size\": 1", "`patch_size` is 1, supported: 2"),
        ("transformer/config.json", "\"in_channels\": 4", "\"in_channels\": 16", "`out_channels` is 4, supported"),
        (
            "transformer/config.json",
            "\"num_mmdit_layers\": 2",
            "\"num_mmdit_layers\": 3",
            "`joint_transformer_blocks.2.attn.to_q.weight` is missing",
        ),
        ("transformer/config.json", "\"pos_embed_max_size\": 64", "\"pos_embed_max_size\": 65", "a square number"),
        (
            "transformer/config.json",
            "\"joint_attention_dim\": 40",
            "\"joint_attention_dim\": 41",
            "the text encoder is 40 wide, the transformer's `joint_attention_dim` is 41",
        ),
        ("scheduler/scheduler_config.json", "\"shift\": 1.73", "\"shift\": 0.0", "`shift` is 0"),
        ("text_encoder/config.json", "\"gated-silu\"", "\"gated-tanh\"", "`feed_forward_proj` is gated-tanh"),
        ("tokenizer/tokenizer.json", END, "}\n    ],\n    \"pair\"", "gives the empty prompt no token"),
        ("vae/config.json", "\"shift_factor\": null", "\"shift_factor\": 0.1", "`shift_factor` is 0.1"),
    ] {
        let dir = edited(file, from, to);
        let error = load(dir.path()).err().map(|e| format!("{e:#}")).unwrap_or_else(|| panic!("{file} {to}: loaded"));
        assert!(error.contains(says), "{file}: {error}");
    }
    // The published folders have Llama's tokenizer.
    let dir = edited("model_index.json", "\"T5Tokenizer\"", "\"LlamaTokenizerFast\"");
    load(dir.path()).unwrap();
    let model = families::open(at("pipeline"), None).unwrap().architecture().unwrap();
    let says = model.latent(144, 64).unwrap_err().to_string();
    assert!(says.contains("the latent is 18x8") && says.contains("goes to 16x16"), "{says}");
}
