//! The other published forms of Stable Diffusion 3 against diffusers and peft: SD3-Medium's and SD3.5-Large's, by the fixtures of
//! `parity_sd3/make_fixtures.py`. Encoders, tokenizers and autoencoder are in the published models those of SD3.5-Medium, whose
//! form the tests `parity` and `parity_text` hold.
#![allow(missing_docs)]

mod common;

use common::{largest, same_images, within};
use opdflow_models::adapter::{self, Format};
use opdflow_models::condition::Condition;
use opdflow_models::config::read_json;
use opdflow_models::families;
use opdflow_models::families::sd3::{Mmdit, OriginalNames, StableDiffusion3};
use opdflow_models::family::{Configs, Family, Guided};
use opdflow_models::linears::LoraConfig;
use opdflow_models::lora::Lora;
use opdflow_models::network::{Input, Options};
use opdflow_models::weights::{Weights, read_tensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const CPU: Device = Device::Cpu;
const FORMS: [&str; 2] = ["medium", "large"];
type Tensors = BTreeMap<String, Tensor>;

fn tests(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn at(form: &str, name: &str) -> PathBuf {
    tests("parity_sd3").join(form).join(name)
}

fn tensors(path: &Path) -> Tensors {
    read_tensors(path, CPU, None).unwrap().0
}

/// To a limit in parts of the largest value, or of 1 where that is less.
#[track_caller]
fn close(what: &str, found: &Tensor, expected: &Tensor, limit: f64) {
    within(what, found, expected, limit * largest(expected).max(1.0));
}

fn model(form: &str) -> (Mmdit, Weights) {
    let folder = at(form, "transformer");
    let weights = Weights::load(&folder, CPU, Kind::Float).unwrap();
    let model = Mmdit::new(&weights.root(), &read_json(&folder.join("config.json")).unwrap()).unwrap();
    weights.expect_all_used(|_| false).unwrap();
    (model, weights)
}

fn velocity(model: &Mmdit, f: &Tensors, lora: Option<&Lora>) -> Tensor {
    model.forward(&f["latent"], &f["timestep"], &f["context"], &f["pooled"], lora)
}

#[test]
fn the_velocity_and_all_gradients() {
    for form in FORMS {
        let f = tensors(&at(form, "velocity.safetensors"));
        let (model, weights) = model(form);
        assert_eq!(model.config().qk_norm.is_some(), form == "large");
        assert!(model.config().dual_attention_layers.is_empty());
        weights.set_trainable(true, |name| name != "pos_embed.pos_embed");
        let _ = f["latent"].set_requires_grad(true);
        let out = velocity(&model, &f, None);
        close(&format!("{form}: velocity"), &out, &f["out"], 1e-5);
        (out - &f["target"]).square().mean(Kind::Float).backward();
        close(&format!("{form}: gradient of the latent"), &f["latent"].grad(), &f["grad_latent"], 1e-5);
        let trainable = weights.trainable();
        assert_eq!(trainable.len(), f.keys().filter(|k| k.starts_with("grad.")).count());
        for (name, t) in trainable {
            let wanted = &f[&format!("grad.{name}")];
            close(&format!("{form}: {name}"), &t.grad(), wanted, 1e-5);
        }
    }
}

/// Adapters of peft, on the eight projections and on every kind of layer: velocity, gradients, and diffusers' file of the same.
#[test]
fn adapters_come_in_with_their_velocity_and_gradients() {
    for form in FORMS {
        let inputs = tensors(&at(form, "velocity.safetensors"));
        for (name, count) in [("lora", 8), ("lora_all", 18)] {
            let what = |of: &str| format!("{form}, {name}: {of}");
            let wanted = tensors(&at(form, &format!("{name}_out.safetensors")));
            let (model, _weights) = model(form);
            let linears = model.linears();
            let lora = Lora::load(at(form, name), &linears, CPU).unwrap();
            assert_eq!(lora.config().target_modules.len(), count);
            lora.set_trainable(true);
            let out = velocity(&model, &inputs, Some(&lora));
            close(&what("velocity"), &out, &wanted["out"], 1e-5);
            let apart = (&wanted["out"] - &inputs["out"]).abs().max().double_value(&[]);
            assert!(apart > 1e-2, "{name} changes nothing");
            (out - &inputs["target"]).square().mean(Kind::Float).backward();
            let named = lora.named();
            assert_eq!(named.len(), wanted.keys().filter(|k| k.starts_with("grad.")).count());
            for (tensor, t) in named {
                close(&what(&tensor), &t.grad(), &wanted[&format!("grad.{tensor}")], 1e-5);
            }
            let read = adapter::read(&at(form, &format!("{name}.safetensors")), &linears, CPU).unwrap();
            assert!(read.notes.is_empty(), "{:?}", read.notes);
            for ((n, a), (m, b)) in lora.named().into_iter().zip(read.lora.named()) {
                assert_eq!((&n, &a.detach()), (&m, &b), "diffusers' file of {name}");
            }
        }
    }
}

/// What we write of an adapter, and what peft, diffusers and the readers of original names made of these very files.
/// `OPDFLOW_WRITE=1` writes them again, for `make_fixtures.py FORM ours` to ask about.
#[test]
fn our_files_are_read_by_the_libraries() {
    for form in FORMS {
        let (model, _weights) = model(form);
        let linears = model.linears();
        let lora = Lora::load(at(form, "lora_all"), &linears, CPU).unwrap();
        let kept = at(form, "ours");
        let (dir, write) = (tempfile::tempdir().unwrap(), std::env::var_os("OPDFLOW_WRITE").is_some());
        let out = if write { kept.clone() } else { dir.path().to_owned() };
        for (format, name) in [
            (Format::Peft, "peft"),
            (Format::Diffusers, ""),
            (Format::Kohya, "kohya.safetensors"),
            (Format::Comfyui, "comfyui.safetensors"),
        ] {
            format.save(&lora, &OriginalNames, Kind::Float, &out.join(name)).unwrap();
        }
        if write {
            println!("{form}: written; `make_fixtures.py {form} ours` asks the libraries");
            continue;
        }
        let inputs = tensors(&at(form, "velocity.safetensors"));
        let theirs = tensors(&at(form, "ours_out.safetensors"));
        assert!(theirs.keys().eq(["comfyui", "diffusers", "kohya", "peft"]));
        let files = [
            ("peft", "peft/adapter_model.safetensors"),
            ("diffusers", "pytorch_lora_weights.safetensors"),
            ("kohya", "kohya.safetensors"),
            ("comfyui", "comfyui.safetensors"),
        ];
        for (reader, file) in files {
            let bytes = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
            assert!(bytes(&out) == bytes(&kept), "{form}: {file} has other bytes");
            let again = Lora::load(out.join(file), &linears, CPU).unwrap();
            let found = tch::no_grad(|| velocity(&model, &inputs, Some(&again)));
            close(&format!("{form}: our file by {reader}"), &found, &theirs[reader], 1e-5);
        }
    }
}

/// A whole folder: network and noise levels of the form, all else of `parity/pipeline`.
fn folder(form: &str) -> tempfile::TempDir {
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
    let shared = tests("parity/pipeline");
    copy(&shared, dir.path());
    for part in StableDiffusion3.parts() {
        let own = ["transformer", "scheduler"].contains(&part.name);
        copy(&if own { at(form, part.name) } else { shared.join(part.name) }, &dir.path().join(part.name));
    }
    dir
}

/// Six Euler steps with guidance and the levels of the folder's scheduler, then the decoder, through the traits that all families
/// share, against `StableDiffusion3Pipeline`.
#[test]
fn the_whole_pipeline() {
    for (form, scale) in [("medium", 7.0), ("large", 3.5)] {
        let f = tensors(&at(form, "end_to_end.safetensors"));
        let dir = folder(form);
        let rows: Value = read_json(&tests("parity/tokens.json")).unwrap();
        let prompts: Vec<&str> = (0..2).map(|i| rows[0]["prompts"][i].as_str().unwrap()).collect();
        let base = families::open(dir.path(), None).unwrap();
        let text = base.text(Options::default()).unwrap();
        let ((network, _weights), vae) = (base.network(CPU, Kind::Float).unwrap(), base.autoencoder(CPU).unwrap());
        let _guard = tch::no_grad_guard();
        let embed = |prompts: &[&str]| text.embed(prompts, Some(16)).unwrap();
        let both = Condition::cat(&[&embed(&["", ""]), &embed(&prompts)]);
        network.takes(&both).unwrap();
        let architecture = network.architecture();
        assert_eq!(architecture.guided(), Guided::Classifier);
        let latent = architecture.latent(48, 64).unwrap();
        let mut x = f["latent"].copy();
        assert_eq!(latent[..], x.size()[1..]);
        let (steps, sigmas) = (6, Vec::<f32>::try_from(&f["sigmas"]).unwrap());
        let schedule = architecture.schedule(steps, latent);
        for (j, level) in sigmas.iter().enumerate() {
            assert!((schedule.sigma(j) - f64::from(*level)).abs() < 1e-6, "{form}: level {j}");
        }
        for j in 0..steps {
            let sigma = Tensor::full([4], schedule.sigma(j), (Kind::Float, CPU));
            let state = Tensor::cat(&[&x, &x], 0);
            let v = network.velocity(&Input { state: &state, sigma: &sigma, condition: &both, guidance: None }, None);
            let v = v.chunk(2, 0);
            x += (&v[0] + (&v[1] - &v[0]) * scale) * (schedule.sigma(j + 1) - schedule.sigma(j));
            if j == 0 {
                close(&format!("{form}: latent after one step"), &x, &f["first"], 1e-5);
            }
        }
        close(&format!("{form}: last latent"), &x, &f["final"], 1e-5);
        let images = (vae.decode(&x) * 0.5 + 0.5).clamp(0.0, 1.0);
        close(&format!("{form}: images"), &images, &f["pictures"], 1e-5);
        same_images(form, &images, &f["pictures"]);
    }
}

/// The gradient of an adapter by recomputation, which no other test asks of networks without norms and second attentions.
#[test]
fn a_recomputed_gradient_is_the_same() {
    for form in FORMS {
        let f = tensors(&at(form, "velocity.safetensors"));
        let (model, _weights) = model(form);
        let lora = Lora::load(at(form, "lora_all"), &model.linears(), CPU).unwrap();
        lora.set_trainable(true);
        let take = || -> Tensors {
            let grad = |(name, t): (String, Tensor)| {
                let own = t.grad().copy();
                let _ = t.grad().zero_();
                (name, own)
            };
            lora.named().into_iter().map(grad).collect()
        };
        let out = velocity(&model, &f, Some(&lora));
        (&out - &f["target"]).square().mean(Kind::Float).backward();
        let direct = take();
        let (again, tape) = model.forward_taped(&f["latent"], &f["timestep"], &f["context"], &f["pooled"], Some(&lora));
        let leaf = again.set_requires_grad(true);
        (&leaf - &f["target"]).square().mean(Kind::Float).backward();
        model.backward(tape, &leaf.grad(), Some(&lora));
        for (name, grad) in take() {
            close(&format!("{form}, recomputed: {name}"), &grad, &direct[&name], 1e-6);
        }
    }
}

/// The configurations of the three published models at full size, shapes only: layers, weights and operations are those that
/// diffusers and PyTorch count (`parity_sd3/published.py`).
#[test]
fn the_published_configurations_are_counted_as_diffusers_counts_them() {
    let told: BTreeMap<String, Value> = read_json(&tests("parity_sd3/published.json")).unwrap();
    assert!(told.keys().eq(["sd3-medium", "sd3.5-large", "sd3.5-medium"]));
    let vae = json!({
        "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 16, "scaling_factor": 1.5305,
        "shift_factor": 0.0609, "use_quant_conv": false, "use_post_quant_conv": false, "force_upcast": true, "sample_size": 1024,
        "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4],
    });
    let scheduler =
        json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0});
    for (name, told) in told {
        let transformer: Value = read_json(&tests("parity_sd3/published").join(format!("{name}.json"))).unwrap();
        let most = transformer["pos_embed_max_size"].as_i64().unwrap() * 16;
        let parts = [("transformer", transformer), ("vae", vae.clone()), ("scheduler", scheduler.clone())];
        let configs = Configs(parts.map(|(part, value)| (part.to_owned(), value)).into());
        let model = StableDiffusion3.architecture(&configs).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        let linears = model.linears();
        assert_eq!(Value::from(linears.len()), told["linears"], "{name}");
        let weights: i64 = linears.iter().map(|l| l.d_in * l.d_out).sum();
        assert_eq!(Value::from(weights), told["linear_weights"], "{name}");
        assert_eq!((model.sides().own, model.sides().most), (1024, Some(most)), "{name}");
        let latent = model.latent(1024, 768).unwrap();
        assert_eq!(json!(latent), told["latent"]);
        let text = told["text_tokens"].as_u64().unwrap();
        let forward = model.forward(latent, text);
        let wanted = |key: &str| told[key].as_f64().unwrap();
        assert!((forward.attention / wanted("attention") - 1.0).abs() < 1e-9, "{name}: {}", forward.attention);
        let off = (forward.attention + forward.products) / wanted("operations") - 1.0;
        println!("{name}: operations off by {off:.1e}");
        // The embeddings of the noise level and of the pooled text, once a row, are left out.
        assert!(off.abs() < 1e-4, "{name}: {off:e}");
        // What is kept: less with recomputation, and no less than the inputs of the blocks; decoding is one autoencoder's.
        let (kept, less) = (model.kept(latent, text, false), model.kept(latent, text, true));
        let inputs = (64 * 48 + text) * linears.iter().find(|l| l.name == "context_embedder").unwrap().d_out as u64;
        assert!(less >= inputs && kept > 4 * less && model.alive(latent, text) < kept, "{name}: {kept} {less}");
        assert!(model.decoded(latent) > 1024 * 768 * 128);
        // The papers' adapter: eight projections a block, but for the last, whose text goes nowhere.
        let wanted = LoraConfig { rank: 32, alpha: 64.0, target_modules: model.targets() };
        let layers = linears.iter().filter(|l| wanted.matches(&l.name)).count();
        let blocks = linears.iter().filter(|l| l.name.ends_with("norm1.linear")).count();
        assert_eq!(layers, 8 * blocks - 1, "{name}");
    }
}
