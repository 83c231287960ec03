//! The network against transformers' own: the fixtures of `mask2former/make_fixtures.py`.

mod place;

use opdflow_models::weights::{read_tensors, save_tensors};
use opdflow_reward_models::mask2former::Mask2Former;
use place::{close, device};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

fn at(name: &str) -> PathBuf {
    place::at("mask2former").join(name)
}

fn tensors(name: &str) -> BTreeMap<String, Tensor> {
    read_tensors(at(name), Device::Cpu, Some(Kind::Float)).unwrap().0
}

fn parity(name: &str) {
    let _off = tch::no_grad_guard();
    let f = tensors(&format!("{name}.safetensors"));
    let (network, config) = Mask2Former::open(&at(name), device()).unwrap();
    let images = f["pictures"].to_device(device());
    assert_eq!(config.id2label.len(), 80);
    let maps = network.maps(&images);
    for (i, map) in maps.iter().enumerate() {
        close(&format!("{name}: backbone's map {i}"), map, &f[&format!("map{i}")], 1e-5);
    }
    let features = network.features(&maps);
    for (i, scale) in features.scales.iter().enumerate() {
        close(&format!("{name}: pixel decoder's scale {i}"), scale, &f[&format!("scale{i}")], 1e-5);
    }
    close(&format!("{name}: pixel embeddings"), &features.masks, &f["pixels"], 1e-5);
    let segments = network.decode(&features);
    // Behind all layers of the decoder, whose queries read each other's rounding: kernels without AVX differ by 1.4e-5 of the
    // largest class logit.
    close(&format!("{name}: class logits"), &segments.classes, &f["classes"], 1e-4);
    close(&format!("{name}: mask logits"), &segments.masks, &f["masks"], 1e-4);
    let again = network.forward(&images);
    assert_eq!((again.classes, again.masks), (segments.classes, segments.masks));
}

#[test]
fn widths_that_differ() {
    parity("wide");
}

#[test]
fn equal_widths_without_projections() {
    parity("equal");
}

/// A copy of the smaller fixture whose tensors and configuration a test may spoil.
fn spoiled(tensors_too: impl Fn(&mut BTreeMap<String, Tensor>), from: &str, to: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(at("equal/config.json")).unwrap();
    assert!(config.contains(from), "{from}");
    std::fs::write(folder.path().join("config.json"), config.replacen(from, to, 1)).unwrap();
    let mut all = tensors("equal/model.safetensors");
    tensors_too(&mut all);
    let all: Vec<_> = all.into_iter().collect();
    save_tensors(folder.path().join("model.safetensors"), &all, Kind::Float).unwrap();
    format!("{:#}", Mask2Former::open(folder.path(), Device::Cpu).err().expect("an error"))
}

#[test]
fn wrong_files_say_what_is_wrong() {
    let table =
        "model.pixel_level_module.encoder.encoder.layers.1.blocks.0.attention.self.relative_position_bias_table";
    let missing = spoiled(|t| drop(t.remove(table)), "{", "{");
    assert!(missing.contains(&format!("tensor `{table}` is missing (expected with shape [49, 1])")), "{missing}");
    let extra =
        spoiled(|t| drop(t.insert("model.more".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)))), "{", "{");
    assert!(extra.contains("belong to no module of this model, the first: model.more"), "{extra}");
    let shape = spoiled(|_| (), r#""num_queries": 7"#, r#""num_queries": 8"#);
    assert!(
        shape.contains("`model.transformer_module.queries_features.weight` has shape [7, 32], expected [8, 32]"),
        "{shape}"
    );
    let backbone = spoiled(|_| (), r#""model_type": "swin""#, r#""model_type": "resnet""#);
    assert!(
        backbone.contains("config.json does not hold") && backbone.contains("the backbone is resnet, supported: swin")
    );
    let nothing = tempfile::tempdir().unwrap();
    let nothing = format!("{:#}", Mask2Former::open(nothing.path(), Device::Cpu).err().expect("an error"));
    assert!(nothing.contains("cannot read") && nothing.contains("config.json"), "{nothing}");
}
