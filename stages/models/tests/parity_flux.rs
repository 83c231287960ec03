//! FLUX.1 against diffusers, transformers and peft: the fixtures of `parity_flux/make_fixtures.py`. Its modules one by one are
//! checked beside their code (`src/flux/tests.rs`).
#![allow(missing_docs)]

mod common;

use common::{largest, same_images, within};
use opdflow_models::adapter;
use opdflow_models::config::read_json;
use opdflow_models::families::flux::{At, Flux, FluxConfig, FluxFolder, LORA_TARGETS, OriginalNames};
use opdflow_models::families::{self, sd3::Mmdit};
use opdflow_models::linears::Linears;
use opdflow_models::lora::Lora;
use opdflow_models::network::{Input, Options};
use opdflow_models::schedule::{SchedulerConfig, TRAIN_STEPS};
use opdflow_models::weights::{Weights, read_tensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const CPU: Device = Device::Cpu;
type Tensors = BTreeMap<String, Tensor>;

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity_flux").join(name)
}

fn fixture(name: &str) -> Tensors {
    read_tensors(at(name), CPU, None).unwrap().0
}

/// To a limit in parts of the largest value.
#[track_caller]
fn close(what: &str, found: &Tensor, expected: &Tensor, limit: f64) {
    within(what, found, expected, limit * largest(expected));
}

fn network(folder: &str, kind: Kind) -> (Flux, Weights) {
    let weights = Weights::load(at(folder), CPU, kind).unwrap();
    let flux = Flux::new(&weights.root(), &read_json(&at(folder).join("config.json")).unwrap()).unwrap();
    weights.expect_all_used(|_| false).unwrap();
    (flux, weights)
}

fn dev() -> (Flux, Weights) {
    network("dev/transformer", Kind::Float)
}

fn inputs<'a>(f: &'a Tensors, timestep: &'a Tensor, guidance: f64) -> At<'a> {
    At { latent: &f["latent"], timestep, context: &f["context"], pooled: &f["pooled"], guidance }
}

fn velocity(flux: &Flux, f: &Tensors, guidance: f64, lora: Option<&Lora>) -> Tensor {
    let timestep = &f["sigma"] * TRAIN_STEPS;
    flux.forward(inputs(f, &timestep, guidance), lora)
}

/// What velocities and what is made of them may differ by, in parts of the largest value: processors round otherwise, and the embedding of guidance
/// 3.5 makes more of it.
const VELOCITY: f64 = 5e-5;

/// The same of a gradient. The embedding of guidance 3.5 is of angles up to 3500, at which half a step of an f32 is so much.
fn allowed(name: &str) -> f64 {
    if name.contains("guidance_embedder") { 3500.0 * f64::from(f32::EPSILON) / 2.0 } else { 1e-4 }
}

/// The gradients of all these weights that the fixture has.
fn gradients(weights: &Weights, f: &Tensors) -> usize {
    let mut seen = 0;
    for (name, t) in weights.trainable() {
        if let Some(expected) = f.get(&format!("grad.{name}")) {
            close(&name, &t.grad(), expected, allowed(&name));
            seen += 1;
        }
    }
    assert_eq!(seen, f.keys().filter(|k| k.starts_with("grad.")).count());
    seen
}

#[test]
fn the_velocity_of_dev_with_gradients() {
    let (f, (flux, weights)) = (fixture("dev.safetensors"), dev());
    weights.set_trainable(true, |_| true);
    let _ = f["latent"].set_requires_grad(true);
    let out = velocity(&flux, &f, 3.5, None);
    close("dev: velocity", &out, &f["out"], VELOCITY);
    (out - &f["target"]).square().mean(Kind::Float).backward();
    close("dev: gradient of the latent", &f["latent"].grad(), &f["grad_latent"], VELOCITY);
    assert_eq!(gradients(&weights, &f), 12 + 2 + 2 + 2 + 2);
    close("dev: velocity with guidance 1", &velocity(&flux, &f, 1.0, None), &f["out_guidance_1"], VELOCITY);
    let apart = (&f["out"] - &f["out_guidance_1"]).abs().max().double_value(&[]);
    assert!(apart > 1e-2, "the guidance changes nothing");
}

#[test]
fn the_velocity_of_schnell_with_all_gradients() {
    let f = fixture("schnell.safetensors");
    let (flux, weights) = network("schnell_parts/transformer", Kind::Float);
    weights.set_trainable(true, |_| true);
    let _ = f["latent"].set_requires_grad(true);
    let out = velocity(&flux, &f, 1.0, None);
    close("schnell: velocity", &out, &f["out"], 1e-5);
    assert!(velocity(&flux, &f, 30.0, None) == out, "a guidance that has no input changes the velocity");
    (out - &f["target"]).square().mean(Kind::Float).backward();
    close("schnell: gradient of the latent", &f["latent"].grad(), &f["grad_latent"], 1e-5);
    assert_eq!(gradients(&weights, &f), weights.trainable().len());
}

#[test]
fn a_recomputed_gradient_is_the_same() {
    let (f, (flux, weights)) = (fixture("lora_out.safetensors"), dev());
    let lora = Lora::load(at("lora"), &flux.linears(), CPU).unwrap();
    lora.set_trainable(true);
    weights.set_trainable(true, |_| true);
    let every = || weights.tensors().into_iter().chain(lora.named());
    let take = || -> Tensors {
        let grad = |(name, t): (String, Tensor)| {
            let own = t.grad().copy();
            let _ = t.grad().zero_();
            (name, own)
        };
        every().map(grad).collect()
    };
    let timestep = &f["sigma"] * TRAIN_STEPS;
    let place = inputs(&f, &timestep, 3.5);
    let out = flux.forward(place, Some(&lora));
    (&out - &f["target"]).square().mean(Kind::Float).backward();
    let direct = take();
    let (again, tape) = flux.forward_taped(place, Some(&lora));
    assert!(again == out && !again.requires_grad());
    let leaf = again.set_requires_grad(true);
    (&leaf - &f["target"]).square().mean(Kind::Float).backward();
    flux.backward(tape, &leaf.grad(), Some(&lora));
    let taped = take();
    assert_eq!(direct.len(), taped.len());
    for (name, grad) in &direct {
        close(name, &taped[name], grad, 1e-6);
        assert!(grad.abs().max().double_value(&[]) > 0.0, "{name} has no gradient");
    }
}

#[test]
fn an_adapter_of_peft_gives_its_velocity_and_gradients() {
    let (f, (flux, _weights)) = (fixture("lora_out.safetensors"), dev());
    close("without the adapter", &velocity(&flux, &f, 3.5, None), &f["base"], VELOCITY);
    let lora = Lora::load(at("lora"), &flux.linears(), CPU).unwrap();
    assert_eq!((lora.config().rank, lora.config().alpha), (2, 4.0));
    let targets: BTreeSet<&str> = lora.config().target_modules.iter().map(String::as_str).collect();
    assert_eq!(targets, LORA_TARGETS.into_iter().collect());
    lora.set_trainable(true);
    let out = velocity(&flux, &f, 3.5, Some(&lora));
    close("with peft's adapter: velocity", &out, &f["out"], VELOCITY);
    (out - &f["target"]).square().mean(Kind::Float).backward();
    let named = lora.named();
    assert_eq!(named.len(), 2 * (2 * 12 + 2 * 3));
    assert_eq!(named.len(), f.keys().filter(|k| k.starts_with("grad.")).count());
    for (name, t) in named {
        close(&name, &t.grad(), &f[&format!("grad.{name}")], allowed(&name));
    }
}

#[test]
fn the_network_in_bfloat16_stays_near() {
    let (f, (flux, _weights)) = (fixture("lora_out.safetensors"), network("dev/transformer", Kind::BFloat16));
    let lora = Lora::load(at("lora"), &flux.linears(), CPU).unwrap();
    let out = velocity(&flux, &f, 3.5, Some(&lora));
    assert_eq!(out.kind(), Kind::Float);
    close("bfloat16: velocity", &out, &f["out"], 0.1);
}

#[derive(serde::Deserialize)]
struct Levels {
    config: String,
    tokens: i64,
    steps: usize,
    sigmas: Vec<f64>,
}

#[test]
fn noise_levels_are_the_scheduler_s() {
    let rows: Vec<Levels> = read_json(&at("sigmas.json")).unwrap();
    let mut most: f64 = 0.0;
    for row in &rows {
        let scheduler = match row.config.as_str() {
            "static" => SchedulerConfig { shift: 3.0, ..SchedulerConfig::default() },
            name => read_json(&at("schedulers").join(name).join("scheduler_config.json")).unwrap(),
        };
        scheduler.check().unwrap();
        let schedule = scheduler.handed(row.steps, row.tokens);
        assert_eq!(schedule.sigmas().len(), row.steps + 1);
        for (found, expected) in schedule.sigmas().iter().zip(&row.sigmas) {
            most = most.max((found - expected).abs());
            let (name, tokens, steps) = (&row.config, row.tokens, row.steps);
            assert!((found - expected).abs() < 1e-6, "{name}, {tokens} tokens, {steps} steps: {found} {expected}");
        }
    }
    println!("{} tables of noise levels: max |difference| {most:.1e}", rows.len());
    assert!(rows.len() > 80);
}

#[test]
fn text_encoders_and_prompts() {
    let f = fixture("text.safetensors");
    let prompts: Vec<String> = read_json(&at("prompts.json")).unwrap();
    let text = FluxFolder::open(at("dev")).unwrap().encoders(CPU, Kind::Float).unwrap();
    let clip = text.clip.1.forward(&f["ids"]).unwrap();
    close("CLIP: pooler_output", &clip.pooled, &f["pooler"], 1e-5);
    close("CLIP: last_hidden_state", &clip.last, &f["last"], 1e-5);
    let all = text.embed(&prompts, 16).unwrap();
    close("prompts: context", all.tensor("context").unwrap(), &f["context"], 1e-5);
    close("prompts: pooled", all.tensor("pooled").unwrap(), &f["pooled"], 1e-5);
    // A prompt is the same bytes alone and among others.
    let one = text.embed(&prompts[1..2], 16).unwrap();
    for name in ["context", "pooled"] {
        assert!(*one.tensor(name).unwrap() == all.tensor(name).unwrap().narrow(0, 1, 1), "{name}");
    }
    assert_eq!((text.t5_length(512), text.t5_length(20), text.clip_length()), (32, 20, 24));
    assert_eq!(text.cut(prompts.iter().map(String::as_str), 16).unwrap(), [4, 6]);
    assert!(text.embed::<&str>(&[], 16).unwrap().is_empty());
    assert!(text.embed(&["a"], 513).unwrap_err().to_string().contains("513 text tokens, FLUX.1 takes at most 512"));
    // The names that transformers wrote before version 5, as the published folders have them.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    let old: Vec<_> = fixture("dev/text_encoder/model.safetensors")
        .into_iter()
        .map(|(n, t)| (format!("text_model.{}", n.trim_start_matches("text_model.")), t))
        .collect();
    opdflow_models::weights::save_tensors(&file, &old, Kind::Float).unwrap();
    let weights = Weights::load(&file, CPU, Kind::Float).unwrap();
    let config = read_json(&at("dev/text_encoder/config.json")).unwrap();
    let clip = opdflow_models::text::clip::ClipText::unprojected(&weights.root(), &config).unwrap();
    weights.expect_all_used(|_| false).unwrap();
    close("CLIP, older names", &clip.forward(&f["ids"]).unwrap().pooled, &f["pooler"], 1e-5);
}

/// A folder of its own with the parts of `dev`, but for those that `other` has.
fn folder(other: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
    };
    copy(&at("dev"), dir.path());
    for part in ["scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae"] {
        let from = other.iter().find(|(p, _)| *p == part).map_or_else(|| at("dev").join(part), |(_, at_)| at(at_));
        copy(&from, &dir.path().join(part));
    }
    dir
}

/// Euler steps with the levels of the folder's scheduler, then the decoder, through the traits that all families share, against
/// `FluxPipeline`.
fn end_to_end(name: &str, folder: &Path, steps: usize, guidance: Option<f64>) {
    let f = fixture(&format!("end_to_end_{name}.safetensors"));
    let prompts: Vec<String> = read_json(&at("prompts.json")).unwrap();
    let folder = families::open(folder, None).unwrap();
    let text = folder.text(Options::default()).unwrap();
    let ((network, _weights), vae) = (folder.network(CPU, Kind::Float).unwrap(), folder.autoencoder(CPU).unwrap());
    let _guard = tch::no_grad_guard();
    let prompts: Vec<&str> = prompts[..2].iter().map(String::as_str).collect();
    let condition = text.embed(&prompts, Some(16)).unwrap();
    network.takes(&condition).unwrap();
    let mut x = f["latent"].copy();
    let (h, w) = (x.size()[2], x.size()[3]);
    let latent = network.architecture().latent(8 * h, 8 * w).unwrap();
    assert_eq!(latent[..], x.size()[1..]);
    let schedule = network.architecture().schedule(steps, latent);
    for j in 0..steps {
        let sigma = Tensor::full([2], schedule.sigma(j), (Kind::Float, CPU));
        let v = network.velocity(&Input { state: &x, sigma: &sigma, condition: &condition, guidance }, None);
        x += v * (schedule.sigma(j + 1) - schedule.sigma(j));
        if j == 0 {
            close(&format!("{name}: latent after one step"), &x, &f["first"], VELOCITY);
        }
    }
    close(&format!("{name}: last latent"), &x, &f["final"], VELOCITY);
    let images = (vae.decode(&x) * 0.5 + 0.5).clamp(0.0, 1.0);
    close(&format!("{name}: images"), &images, &f["pictures"], VELOCITY);
    same_images(name, &images, &f["pictures"]);
}

#[test]
fn end_to_end_dev() {
    end_to_end("dev", &at("dev"), 6, None);
}

#[test]
fn end_to_end_schnell() {
    let dir = folder(&[("transformer", "schnell_parts/transformer"), ("scheduler", "schnell_parts/scheduler")]);
    end_to_end("schnell", dir.path(), 4, Some(0.0));
}

#[test]
fn broken_folders_are_explained() {
    let load = |dir: &Path| {
        let folder = FluxFolder::open(dir)?;
        folder.model()?;
        let text = folder.encoders(CPU, Kind::Float)?;
        folder.transformer(CPU, Kind::Float)?;
        folder.vae(CPU)?;
        Ok::<_, anyhow::Error>(text)
    };
    let fails = |dir: &Path| match load(dir) {
        Ok(_) => panic!("loaded"),
        Err(e) => format!("{e:#}"),
    };
    let edit = |file: &str, from: &str, to: &str| {
        let dir = folder(&[]);
        let path = dir.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
        fails(dir.path())
    };
    for (file, from, to, says) in [
        ("model_index.json", "\"FluxPipeline\"", "\"FluxFillPipeline\"", "`_class_name` is FluxFillPipeline"),
        ("model_index.json", "\"FluxTransformer2DModel\"", "\"Other\"", "`transformer` is Other"),
        ("transformer/config.json", "\"patch_size\": 1", "\"patch_size\": 2", "`patch_size` is 2, supported: 1"),
        (
            "transformer/config.json",
            "\"in_channels\": 64",
            "\"in_channels\": 128",
            "the VAE's latents have 16 channels",
        ),
        (
            "transformer/config.json",
            "\"num_layers\": 2",
            "\"num_layers\": 3",
            "`transformer_blocks.2.norm1.linear.weight` is missing",
        ),
        ("transformer/config.json", "\"guidance_embeds\": true", "\"guidance_embeds\": false", "guidance_embedder"),
        (
            "transformer/config.json",
            "\"pooled_projection_dim\": 8",
            "\"pooled_projection_dim\": 9",
            "`pooled_projection_dim` is 9",
        ),
        ("scheduler/scheduler_config.json", "\"exponential\"", "\"cosine\"", "`time_shift_type` is cosine"),
        ("text_encoder/config.json", "\"quick_gelu\"", "\"selu\"", "text_encoder/config.json"),
        ("vae/config.json", "\"silu\"", "\"mish\"", "`act_fn` is mish"),
    ] {
        let error = edit(file, from, to);
        assert!(error.contains(says), "{file}: {error}");
    }
    let dir = folder(&[]);
    std::fs::remove_dir_all(dir.path().join("text_encoder_2")).unwrap();
    assert!(fails(dir.path()).contains("the part `text_encoder_2` (T5EncoderModel) is absent"));
    assert!(FluxFolder::open(dir.path()).unwrap().transformer(CPU, Kind::Float).is_ok());
    let sd3 = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/pipeline");
    assert!(fails(&sd3).contains("`_class_name` is StableDiffusion3Pipeline, supported: FluxPipeline"));
    assert!(fails(&sd3.join("transformer/config.json")).contains("is a file: FLUX.1 is read from a folder"));
    let model = families::open(at("dev"), None).unwrap().architecture().unwrap();
    let says = model.latent(512, 520).unwrap_err().to_string();
    assert!(says.contains("the latent is 64x65, both sides must be even"), "{says}");
}

#[test]
fn an_adapter_of_another_model_is_refused_by_name() {
    let sd3 = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let (flux, _weights) = dev();
    let refused = |path: &Path, linears: &Linears| match adapter::read(path, linears, CPU) {
        Ok(_) => panic!("{} was taken", path.display()),
        Err(e) => format!("{e:#}"),
    };
    // Widths and names of attention are the same in the two small models: what tells is what only one of them has.
    let folder = sd3("parity/pipeline/transformer");
    let weights = Weights::load(&folder, CPU, Kind::Float).unwrap();
    let mmdit = Mmdit::new(&weights.root(), &read_json(&folder.join("config.json")).unwrap()).unwrap();
    for path in ["lora", "lora_single.safetensors"] {
        let says = refused(&at(path), &mmdit.linears());
        assert!(says.contains("is a layer of FLUX.1 or AuraFlow, and the base is Stable Diffusion 3"), "{says}");
    }
    for path in ["adapters/kohya.safetensors", "adapters/comfyui.safetensors", "adapters/omi.safetensors"] {
        let says = refused(&sd3(path), &flux.linears());
        assert!(says.contains("is a layer of Stable Diffusion 3 and 3.5, and the base is FLUX.1"), "{path}: {says}");
    }
    let says = refused(&sd3("parity/lora_r2"), &flux.linears());
    println!("{says}");
    assert!(says.contains("transformer_blocks"), "{says}");
    // A deeper FLUX.1.
    let config = FluxConfig { num_single_layers: 1, ..flux.config().clone() };
    let says = refused(&at("lora"), &Linears::named(config.linears(), &OriginalNames));
    assert!(says.contains("is in block 1, and this model has 1 (0 to 0)"), "{says}");
}
