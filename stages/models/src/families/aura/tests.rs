//! The modules of network and text encoder one by one against diffusers and transformers: the fixtures of
//! `tests/parity_aura/make_fixtures.py`.

use super::block::{JointBlock, SingleBlock};
use super::embed::{PatchEmbed, TimeEmbed};
use super::{AuraConfig, Umt5Encoder};
use crate::config::read_json;
use crate::weights::{Weights, read_tensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity_aura").join(name)
}

fn fixture() -> BTreeMap<String, Tensor> {
    read_tensors(at("modules.safetensors"), Device::Cpu, None).unwrap().0
}

fn network() -> (AuraConfig, Weights) {
    let folder = at("pipeline/transformer");
    let weights = Weights::load(&folder, Device::Cpu, Kind::Float).unwrap();
    (read_json(&folder.join("config.json")).unwrap(), weights)
}

#[track_caller]
fn close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size(), "{what}: shape");
    let (diff, most) = ((found - expected).abs().max().double_value(&[]), expected.abs().max().double_value(&[]));
    println!("{what}: max |difference| {diff:.2e} of max |value| {most:.2e}");
    assert!(diff <= 1e-5 * most, "{what}: differs by {diff:e}");
}

#[test]
fn patches_with_their_places_and_the_time() {
    let (f, (config, weights)) = (fixture(), network());
    let patches = PatchEmbed::new(&weights.root().sub("pos_embed"), &config).unwrap();
    close("patches and places", &patches.forward(&f["latent"], None), &f["patches"]);
    let time = TimeEmbed::new(&weights.root().sub("time_step_proj"), &config).unwrap();
    close("time", &time.forward(&f["sigma"], Kind::Float, None), &f["time"]);
}

#[test]
fn a_joint_and_a_single_block() {
    let (f, (config, weights)) = (fixture(), network());
    let cond = f["cond"].silu();
    let block = JointBlock::new(&weights.root().sub("joint_transformer_blocks.1"), &config).unwrap();
    let (x, text) = block.forward(&f["x"], &f["text"], &cond, None);
    close("joint block, image", &x, &f["x_out"]);
    close("joint block, text", &text, &f["text_out"]);
    let block = SingleBlock::new(&weights.root().sub("single_transformer_blocks.1"), &config).unwrap();
    close("single block", &block.forward(&Tensor::cat(&[&f["text"], &f["x"]], 1), &cond, None), &f["single"]);
}

/// Rows of 1, 23 and 40 tokens, farther apart than the last bucket.
#[test]
fn umt5_with_a_mask() {
    let (f, folder) = (fixture(), at("umt5_gelu"));
    let weights = Weights::load(&folder, Device::Cpu, Kind::Float).unwrap();
    let encoder = Umt5Encoder::new(&weights.root(), &read_json(&folder.join("config.json")).unwrap()).unwrap();
    weights.expect_all_used(|_| false).unwrap();
    let (ids, mask) = (&f["ids"], &f["mask"]);
    let states = encoder.forward(ids, mask).unwrap();
    close("UMT5, gated-gelu", &(&states * mask.unsqueeze(-1)), &f["states"]);
    // What fills up is seen by nobody, whatever it is.
    let other = ids * mask + (1i64 - mask) * 7i64;
    let again = encoder.forward(&other, mask).unwrap() * mask.unsqueeze(-1);
    assert!(again == &states * mask.unsqueeze(-1) && other != *ids);
    let seen = (encoder.forward(ids, &mask.ones_like()).unwrap() - &states) * mask.unsqueeze(-1);
    assert!(seen.abs().max().double_value(&[]) > 1e-3, "the mask changes nothing");
    for wrong in [mask.zeros_like(), mask.narrow(1, 0, 3)] {
        assert!(encoder.forward(ids, &wrong).is_err());
    }
    let none = Tensor::zeros([0, 5], (Kind::Int64, Device::Cpu));
    assert_eq!(encoder.forward(&none, &none).unwrap().size(), [0, 5, 8]);
}
