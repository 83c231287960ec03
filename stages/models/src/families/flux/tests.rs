//! The modules of the network one by one against diffusers: the fixtures of `tests/parity_flux/make_fixtures.py`.

use super::block::{DoubleBlock, SingleBlock};
use super::embed::TimeTextEmbed;
use super::rope::Rope;
use super::{FluxConfig, OriginalNames, pack, unpack};
use crate::config::read_json;
use crate::init::Init;
use crate::linears::{LinearShape, Naming as _};
use crate::weights::{Place, Weights, read_tensors, save_tensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity_flux").join(name)
}

fn fixture() -> BTreeMap<String, Tensor> {
    read_tensors(at("modules.safetensors"), Device::Cpu, None).unwrap().0
}

fn network(folder: &str) -> (FluxConfig, Weights) {
    let weights = Weights::load(at(folder), Device::Cpu, Kind::Float).unwrap();
    (read_json(&at(folder).join("config.json")).unwrap(), weights)
}

#[track_caller]
fn close(what: &str, found: &Tensor, expected: &Tensor, limit: f64) {
    assert_eq!(found.size(), expected.size(), "{what}: shape");
    let (diff, most) = ((found - expected).abs().max().double_value(&[]), expected.abs().max().double_value(&[]));
    println!("{what}: max |difference| {diff:.2e} of max |value| {most:.2e}");
    assert!(diff <= limit * most, "{what}: differs by {diff:e}");
}

#[test]
fn rotary_positions() {
    let (f, (config, _)) = (fixture(), network("dev/transformer"));
    let rope = Rope::new(&config, Device::Cpu);
    let (cos, sin) = rope.angles(5, 3, 5).table();
    close("cosines", &cos, &f["cos"], 1e-7);
    close("sines", &sin, &f["sin"], 1e-7);
    let (cos, sin) = rope.angles(0, 2, 128).table();
    close("cosines, wide", &cos, &f["large_cos"], 1e-7);
    close("sines, wide", &sin, &f["large_sin"], 1e-7);
}

#[test]
fn conditioning_of_time_guidance_and_text() {
    let f = fixture();
    let time = &f["sigma"] * 1000.0;
    for (folder, key) in [("dev/transformer", "with_guidance"), ("schnell_parts/transformer", "without")] {
        let (config, weights) = network(folder);
        let embed = TimeTextEmbed::new(&weights.root().sub("time_text_embed"), &config).unwrap();
        // Half a step of an f32 at an angle of 3500, which is guidance 3.5: another processor's exponential is one such step off.
        let limit = if key == "with_guidance" { 3500.0 * f64::from(f32::EPSILON) / 2.0 } else { 1e-5 };
        close(key, &embed.forward(&time, &f["guidance"], &f["pooled"], None), &f[key], limit);
    }
}

#[test]
fn a_double_and_a_single_block() {
    let (f, (config, weights)) = (fixture(), network("dev/transformer"));
    let angles = Rope::new(&config, Device::Cpu).angles(5, 3, 5);
    let cond = f["cond"].silu();
    let block = DoubleBlock::new(&weights.root().sub("transformer_blocks.1"), &config).unwrap();
    let (x, text) = block.forward(f["x"].copy(), f["text"].copy(), &cond, &angles, None);
    close("double block, image", &x, &f["x_out"], 1e-5);
    close("double block, text", &text, &f["text_out"], 1e-5);
    let block = SingleBlock::new(&weights.root().sub("single_transformer_blocks.0"), &config).unwrap();
    let both = block.forward(Tensor::cat(&[&f["text"], &f["x"]], 1), &cond, &angles, None);
    close("single block, text", &both.narrow(1, 0, 5), &f["text_single"], 1e-5);
    close("single block, image", &both.narrow(1, 5, 15), &f["x_single"], 1e-5);
}

#[test]
fn latents_are_packed_as_upstream() {
    let f = fixture();
    assert!(pack(&f["latent"]) == f["packed"]);
    assert!(unpack(&f["packed"], 6, 10) == f["latent"]);
}

/// A single block's fused tensor, taken apart by the weights' own layout as diffusers' converter does.
#[test]
fn weights_are_cut_by_the_same_places() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.safetensors");
    let fused = Tensor::arange(7 * 4 * 4, (Kind::Float, Device::Cpu)).view([28, 4]);
    save_tensors(&file, &[("single_blocks.0.linear1.weight".into(), fused.shallow_clone())], Kind::Float).unwrap();
    let place = |name: &str| {
        let path = name.trim_end_matches(".weight");
        let layer = LinearShape { name: path.to_owned(), d_in: 4, d_out: 4 };
        let place = OriginalNames.place(&layer).unwrap();
        Place { name: format!("{}.weight", place.name), ..place }
    };
    let w = Weights::load(&file, Device::Cpu, Kind::Float).unwrap().with_layout(place);
    let block = w.root().sub("single_transformer_blocks.0");
    for (name, first, rows) in [("attn.to_q", 0, 4), ("attn.to_k", 4, 4), ("attn.to_v", 8, 4), ("proj_mlp", 12, 16)] {
        let found = block.sub(name).get("weight", &[rows, 4], Init::Zeros).unwrap();
        assert!(found == fused.narrow(0, first, rows), "{name}");
    }
    w.expect_all_used(|_| false).unwrap();
}
