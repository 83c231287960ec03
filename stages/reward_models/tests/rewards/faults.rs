//! What a user is told of files that do not do.

use crate::rig::{aesthetic, error, fixture, head, images, open, reward_model};
use opdflow_models::weights::save_tensors;
use opdflow_rewards::{RewardError, Subject};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

#[test]
fn broken_parts_are_explained() {
    let edit = |folder: &TempDir, file: &str, from: &str, to: &str| {
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    let clip = || reward_model(&[("clip", "clip")]);
    for (file, from, to, says) in [
        ("clip/config.json", "\"clip\"", "\"siglip\"", "`model_type` is siglip"),
        ("clip/config.json", "\"patch_size\": 6", "\"patch_size\": 5", "embedding.weight` has shape"),
        (
            "clip/config.json",
            "\"image_size\": 20",
            "\"image_size\": 18",
            "takes images of 18x18, the preprocessing makes 20x20",
        ),
        ("clip/config.json", "{", "[", "clip/config.json does not hold what is expected"),
        ("clip/preprocessor_config.json", "\"resample\": 3", "\"resample\": 1", "`resample` is 1"),
        ("clip/vocab.json", "{", "", "vocab.json"),
    ] {
        let folder = clip();
        edit(&folder, file, from, to);
        let error = error("clipscore", &folder);
        assert!(error.contains(says), "{file}, {to}: {error}");
    }
    for (file, says) in [
        ("clip/model.safetensors", "no weights here"),
        ("clip/config.json", "cannot read"),
        ("clip/preprocessor_config.json", "cannot read"),
        ("clip/merges.txt", "cannot read"),
    ] {
        let folder = clip();
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let error = error("clipscore", &folder);
        assert!(error.contains(says) && error.contains("clip"), "without {file}: {error}");
    }
    let nothing = tempfile::tempdir().unwrap();
    for (name, says) in [
        ("clipscore", "the part `clip` is missing: the folder openai/clip-vit-large-patch14"),
        ("aesthetic", "the part `clip` is missing"),
        ("pickscore", "the part `model` is missing: the folder yuvalkirstain/PickScore_v1"),
        ("hpsv2", "the part `model` is missing: HPS_v2.1_compressed.pt"),
    ] {
        let error = error(name, &nothing);
        assert!(error.contains(says), "{name}: {error}");
    }
    let no_head = error("aesthetic", &clip());
    assert!(no_head.contains("the part `head` is missing: sac+logos+ava1-l14-linearMSE.pth"), "{no_head}");
}

#[test]
fn weights_of_something_else_are_explained() {
    let save = |folder: &TempDir, file: &str, tensors: BTreeMap<String, Tensor>| {
        let tensors: Vec<_> = tensors.into_iter().collect();
        save_tensors(folder.path().join(file), &tensors, Kind::Float).unwrap();
    };
    // A tensor less, a tensor more, a tensor of another shape, in both layouts.
    let hps = || reward_model(&[("model", "hps"), ("tokenizer", "clip")]);
    let file = "model/HPS.safetensors";
    let gone = "visual.transformer.resblocks.1.attn.in_proj_weight";
    for (name, tensor, says) in [
        (
            gone,
            None,
            "tensor `visual.transformer.resblocks.1.attn.in_proj_weight` is missing (expected with shape [72, 24])",
        ),
        (gone, Some(vec![71, 24]), "in_proj_weight` has shape [71, 24], expected [72, 24]"),
        ("visual.proj", Some(vec![12, 24]), "tensor `visual.proj` has shape [12, 24], expected [24, 12]"),
        ("logit_bias", Some(vec![1]), "1 tensors belong to no module of this model, the first: logit_bias"),
    ] {
        let folder = hps();
        let mut tensors = fixture("hps/HPS.safetensors");
        tensors.remove(name);
        if let Some(shape) = tensor {
            tensors.insert(name.to_owned(), Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
        }
        save(&folder, file, tensors);
        let error = error("hpsv2", &folder);
        assert!(error.contains(says) && error.contains("HPS.safetensors"), "{name}: {error}");
    }
    // Without its own description the checkpoint is taken for the published ViT-H-14.
    let folder = hps();
    std::fs::remove_file(folder.path().join("model/open_clip_config.json")).unwrap();
    let published = error("hpsv2", &folder);
    assert!(
        published.contains("`visual.conv1.weight` has shape [24, 3, 5, 5], expected [1280, 3, 14, 14]"),
        "{published}"
    );
    // A head for embeddings of another width; one that holds more than the stack.
    let folder = aesthetic();
    save(&folder, "head/head.safetensors", head(13).into_iter().collect());
    let wide = error("aesthetic", &folder);
    assert!(wide.contains("`layers.0.weight` has shape [1024, 13], expected [1024, 12]"), "{wide}");
    let mut tensors: BTreeMap<String, Tensor> = head(12).into_iter().collect();
    tensors.insert("layers.9.bias".to_owned(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
    save(&folder, "head/head.safetensors", tensors);
    let more = error("aesthetic", &folder);
    assert!(more.contains("the first: layers.9.bias"), "{more}");
}

#[test]
fn scores_that_are_no_numbers_are_errors() {
    let folder = aesthetic();
    let mut tensors: BTreeMap<String, Tensor> = head(12).into_iter().collect();
    for name in ["layers.6.weight", "layers.7.weight"] {
        let large = &tensors[name] * 1e30;
        tensors.insert(name.to_owned(), large);
    }
    let all: Vec<_> = tensors.into_iter().collect();
    save_tensors(folder.path().join("head/head.safetensors"), &all, Kind::Float).unwrap();
    let reward = open("aesthetic", &folder).unwrap();
    let failed = reward.score(&images()[..1], &[Subject::default()]).unwrap_err();
    assert!(matches!(failed, RewardError::NotFinite { image: 0, .. }), "{failed:?}");
    let failed = failed.to_string();
    assert!(failed.contains("the reward `aesthetic` failed: image 0 with \"\" gave "), "{failed}");
}

#[test]
fn weights_that_are_no_numbers_are_refused_when_read() {
    let folder = aesthetic();
    let mut tensors: BTreeMap<String, Tensor> = head(12).into_iter().collect();
    tensors.insert("layers.7.bias".to_owned(), Tensor::from_slice(&[f32::NAN]));
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
    Tensor::write_safetensors(&named, folder.path().join("head/head.safetensors")).unwrap();
    let refused = error("aesthetic", &folder);
    assert!(refused.contains("head.safetensors: tensor `layers.7.bias` holds NaN at [0]"), "{refused}");
}
