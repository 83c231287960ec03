//! The networks against diffusers, transformers and peft: the fixtures of `parity/make_fixtures.py`.

mod common;
#[path = "parity/place.rs"]
mod place;

use common::within;
use opdflow_models::config::read_json;
use opdflow_models::families::sd3::Mmdit;
use opdflow_models::lora::Lora;
use opdflow_models::text::{clip::ClipText, t5::T5Encoder};
use opdflow_models::vae::Vae;
use opdflow_models::weights::{Weights, read_tensors};
use place::{allowed, at, device};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

fn fixture(name: &str) -> BTreeMap<String, Tensor> {
    read_tensors(at(name), device(), None).unwrap().0
}

fn weights(name: &str) -> Weights {
    Weights::load(at(name), device(), Kind::Float).unwrap()
}

#[track_caller]
fn close(what: &str, found: &Tensor, expected: &Tensor, limit: f64) {
    within(what, found, expected, allowed(limit, expected));
}

fn mmdit(folder: &str) -> (Mmdit, Weights) {
    let w = weights(folder);
    let model = Mmdit::new(&w.root(), &read_json(&at(folder).join("config.json")).unwrap()).unwrap();
    w.expect_all_used(|_| false).unwrap();
    (model, w)
}

fn velocity(model: &Mmdit, f: &BTreeMap<String, Tensor>, lora: Option<&Lora>) -> Tensor {
    model.forward(&f["latent"], &f["timestep"], &f["context"], &f["pooled"], lora)
}

#[test]
fn mmdit_with_norms_and_second_attention() {
    let f = fixture("mmdit_dual.safetensors");
    let (model, _weights) = mmdit("pipeline/transformer");
    close("velocity", &velocity(&model, &f, None), &f["out"], 1e-5);
}

#[test]
fn mmdit_plain_with_all_gradients() {
    let f = fixture("mmdit_plain.safetensors");
    let (model, weights) = mmdit("mmdit_plain");
    weights.set_trainable(true, |name| name != "pos_embed.pos_embed");
    let _ = f["latent"].set_requires_grad(true);
    let out = velocity(&model, &f, None);
    close("velocity", &out, &f["out"], 1e-5);
    (out - &f["target"]).square().mean(Kind::Float).backward();
    close("gradient of the latent", &f["latent"].grad(), &f["grad_latent"], 1e-5);
    let trainable = weights.trainable();
    assert_eq!(trainable.len(), f.keys().filter(|k| k.starts_with("grad.")).count());
    for (name, t) in trainable {
        close(&name, &t.grad(), &f[&format!("grad.{name}")], 1e-5);
    }
}

#[test]
fn positions_are_recomputed_when_absent() {
    let folder = "pipeline/transformer";
    let (model, _) = mmdit(folder);
    let f = fixture("mmdit_dual.safetensors");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    let mut tensors = fixture("pipeline/transformer/diffusion_pytorch_model.safetensors");
    assert!(tensors.remove("pos_embed.pos_embed").is_some());
    let tensors: Vec<_> = tensors.into_iter().collect();
    opdflow_models::weights::save_tensors(&file, &tensors, Kind::Float).unwrap();
    let w = Weights::load(&file, device(), Kind::Float).unwrap();
    let again = Mmdit::new(&w.root(), model.config()).unwrap();
    close("velocity", &velocity(&again, &f, None), &velocity(&model, &f, None), 1e-6);
}

#[test]
fn mmdit_in_bfloat16_stays_near() {
    let f = fixture("mmdit_dual.safetensors");
    let at = at("pipeline/transformer");
    let w = Weights::load(&at, device(), Kind::BFloat16).unwrap();
    let model = Mmdit::new(&w.root(), &read_json(&at.join("config.json")).unwrap()).unwrap();
    let lora = Lora::load(place::at("lora_r2"), &model.linears(), device()).unwrap();
    let out = velocity(&model, &f, None);
    assert_eq!(out.kind(), Kind::Float);
    close("velocity", &out, &f["out"], 0.2);
    let with = fixture("lora_r2_out.safetensors");
    close("velocity, LoRA", &velocity(&model, &f, Some(&lora)), &with["out"], 0.2);
}

fn adapter(rank: i64) {
    let f = fixture("mmdit_dual.safetensors");
    let expected = fixture(&format!("lora_r{rank}_out.safetensors"));
    let (model, _weights) = mmdit("pipeline/transformer");
    let lora = Lora::load(at(&format!("lora_r{rank}")), &model.linears(), device()).unwrap();
    assert_eq!(lora.config().rank, rank);
    for module in lora.modules() {
        assert_eq!(lora.scale(lora.pair(module).unwrap()), 2.0);
    }
    lora.set_trainable(true);
    let out = velocity(&model, &f, Some(&lora));
    close("velocity", &out, &expected["out"], 1e-5);
    (out - &expected["target"]).square().mean(Kind::Float).backward();
    let named = lora.named();
    // 8 targets a block, but the last one has no text output.
    assert_eq!(named.len(), 2 * (3 * 8 - 1));
    assert_eq!(named.len(), expected.keys().filter(|k| k.starts_with("grad.")).count());
    for (name, t) in named {
        close(&name, &t.grad(), &expected[&format!("grad.{name}")], 1e-5);
    }
}

#[test]
fn lora_beside_the_weights() {
    adapter(2);
}

#[test]
fn lora_merged_into_the_weights() {
    adapter(8);
}

#[test]
fn lora_files_round_trip() {
    let (model, _weights) = mmdit("pipeline/transformer");
    let linears = model.linears();
    let lora = Lora::load(at("lora_r2"), &linears, device()).unwrap();
    let single = Lora::load(at("lora_single.safetensors"), &linears, device()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    lora.save(dir.path()).unwrap();
    let again = Lora::load(dir.path(), &linears, device()).unwrap();
    for other in [&single, &again] {
        for module in lora.modules() {
            let scale = |l: &Lora| l.scale(l.pair(module).unwrap());
            assert_eq!(scale(other), scale(&lora));
        }
        for ((n, a), (m, b)) in lora.named().into_iter().zip(other.named()) {
            assert_eq!((&n, &a), (&m, &b));
        }
    }
    assert_eq!(again.config(), lora.config());
    let bytes = |p: std::path::PathBuf| std::fs::read(p).unwrap();
    let first = bytes(dir.path().join("adapter_model.safetensors"));
    again.save(dir.path()).unwrap();
    assert_eq!(first, bytes(dir.path().join("adapter_model.safetensors")));
}

#[test]
fn vae() {
    for folder in ["pipeline/vae", "vae_small"] {
        let f = fixture(if folder == "vae_small" { "vae_small.safetensors" } else { "vae.safetensors" });
        let w = weights(folder);
        let vae = Vae::new(&w.root(), &read_json(&at(folder).join("config.json")).unwrap()).unwrap();
        w.expect_all_used(|_| false).unwrap();
        let posterior = vae.encode(&f["picture"]);
        close("mean", &posterior.mode(), &f["mean"], 1e-5);
        close("log-variance", &posterior.logvar, &f["logvar"], 1e-5);
        close("image", &vae.decode(f.get("z").unwrap_or(&f["mean"])), &f["decoded"], 1e-5);
        close("scale and back", &vae.unscale(&vae.scale(&f["mean"])), &f["mean"], 1e-6);
    }
}

#[test]
fn vae_in_tiles() {
    let f = fixture("vae_tiled.safetensors");
    let w = weights("vae_small");
    let vae = Vae::new(&w.root(), &read_json(&at("vae_small").join("config.json")).unwrap()).unwrap();
    let _off = tch::no_grad_guard();
    close("image in tiles", &vae.decode_tiled(&f["z"]), &f["tiled"], 1e-5);
    close("image in one", &vae.decode(&f["z"]), &f["whole"], 1e-5);
    let apart = (&f["tiled"] - &f["whole"]).abs().max().double_value(&[]);
    assert!(apart > 1e-3, "the tiles of the fixture show no seams");
    let small = f["z"].narrow(2, 0, 20).narrow(3, 0, 32);
    assert_eq!(vae.decode_tiled(&small), vae.decode(&small), "what fits a tile is decoded whole");
}

#[test]
fn clip() {
    let f = fixture("text.safetensors");
    // The first has the old eos_token_id 2 and quick_gelu, the second the right one and gelu.
    for (n, folder) in [(1, "pipeline/text_encoder"), (2, "pipeline/text_encoder_2")] {
        let w = weights(folder);
        let clip = ClipText::new(&w.root(), &read_json(&at(folder).join("config.json")).unwrap()).unwrap();
        w.expect_all_used(|_| false).unwrap();
        let out = clip.forward(&f[&format!("clip{n}.ids")]).unwrap();
        close("hidden_states[-2]", &out.hidden, &f[&format!("clip{n}.hidden")], 1e-5);
        close("last_hidden_state", &out.last, &f[&format!("clip{n}.last")], 1e-5);
        close("text_embeds", &out.pooled, &f[&format!("clip{n}.pooled")], 1e-5);
    }
}

#[test]
fn t5() {
    let f = fixture("text.safetensors");
    let folder = "pipeline/text_encoder_3";
    let w = weights(folder);
    let t5 = T5Encoder::new(&w.root(), &read_json(&at(folder).join("config.json")).unwrap()).unwrap();
    w.expect_all_used(|_| false).unwrap();
    close("last_hidden_state", &t5.forward(&f["t5.ids"]).unwrap(), &f["t5.out"], 1e-5);
    // The pipeline's own lengths: relative distances beyond the last bucket, padding and all.
    let f = fixture("text_long.safetensors");
    for length in [128, 256] {
        let (ids, out) = (&f[&format!("ids.{length}")], &f[&format!("out.{length}")]);
        close(&format!("last_hidden_state, {length} tokens"), &t5.forward(ids).unwrap(), out, 1e-5);
    }
}
