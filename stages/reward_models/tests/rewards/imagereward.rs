//! ImageReward against its own package: the fixture of `make_imagereward.py`.

use crate::place::device;
use crate::rig::{at, close, error, fixture, head, images, reward_model, scores};
use opdflow_models::text::tokenizer::Tokenizer;
use opdflow_models::weights::save_tensors;
use opdflow_reward_models::open;
use opdflow_rewards::Reward;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

const SMALL: &str = r#"{"image_size": 20, "patch_size": 6, "width": 24, "layers": 2, "heads": 3}"#;
const FILE: &str = "model/ImageReward.safetensors";

/// The reward model's folder: the fixture's tensors with the linear stack that is made by a rule.
fn folder() -> TempDir {
    let dir = reward_model(&[("model", "imagereward/model"), ("tokenizer", "imagereward/tokenizer")]);
    let mut tensors = fixture("imagereward/model/ImageReward.safetensors");
    tensors.extend(head(16).into_iter().map(|(n, t)| (format!("mlp.{n}"), t)));
    save(&dir, tensors);
    std::fs::write(dir.path().join("model/vit_config.json"), SMALL).unwrap();
    dir
}

fn save(folder: &TempDir, tensors: BTreeMap<String, Tensor>) {
    save_tensors(folder.path().join(FILE), &tensors.into_iter().collect::<Vec<_>>(), Kind::Float).unwrap();
}

fn small(folder: &Path) -> anyhow::Result<Box<dyn Reward>> {
    open("imagereward", folder, device())
}

fn told(folder: &Path) -> String {
    format!("{:#}", small(folder).err().expect("it opens"))
}

fn prompts() -> Vec<String> {
    serde_json::from_str(&std::fs::read_to_string(at("imagereward/prompts.json")).unwrap()).unwrap()
}

#[test]
fn token_ids() {
    let expected = &fixture("imagereward/scores.safetensors")["ids"];
    let folder = tempfile::tempdir().unwrap();
    let files = at("imagereward/tokenizer");
    for keep in ["vocab.txt", "tokenizer.json"] {
        std::fs::copy(files.join(keep), folder.path().join(keep)).unwrap();
        let found = Tokenizer::bert(folder.path()).unwrap().ids(&prompts(), 35).unwrap();
        assert_eq!(&found, expected, "{keep}");
        std::fs::remove_file(folder.path().join(keep)).unwrap();
    }
}

#[test]
fn reward() {
    let folder = folder();
    let (images, prompts) = (images(), prompts());
    let reward = small(folder.path()).unwrap();
    let found = scores(&*reward, &images, &prompts);
    let numbers: Vec<f32> = found.iter().map(|s| s.value as f32).collect();
    close(
        "imagereward",
        &Tensor::from_slice(&numbers),
        &fixture("imagereward/scores.safetensors")["imagereward"],
        1e-5,
    );
    // Other neighbours, and more of them than a batch holds.
    let twice = |n: usize| -> Vec<usize> { (0..n).chain((0..n).rev()).chain(0..n).collect() };
    let order = twice(images.len());
    let shown: Vec<_> = order.iter().map(|&i| images[i].clone()).collect();
    let told: Vec<_> = order.iter().map(|&i| prompts[i].clone()).collect();
    for (score, &i) in scores(&*reward, &shown, &told).iter().zip(&order) {
        assert!((score.value - found[i].value).abs() < 1e-5, "image {i} among others");
    }
    // Both sides count.
    for (image, prompt) in [(0, 1), (1, 0)] {
        let other = &scores(&*reward, &images[image..=image], &prompts[prompt..=prompt])[0];
        assert!((other.value - found[0].value).abs() > 1e-3 && (other.value - found[1].value).abs() > 1e-3);
    }
}

#[test]
fn broken_parts_are_explained() {
    let nothing = tempfile::tempdir().unwrap();
    let missing = told(nothing.path());
    assert!(missing.contains("the part `model` is missing: ImageReward.pt"), "{missing}");
    let whole = folder();
    std::fs::remove_file(whole.path().join("model/vit_config.json")).unwrap();
    let published = error("imagereward", &whole);
    assert!(published.contains("`blip.visual_encoder.patch_embed.proj.weight` has shape [24, 3, 6, 6]"), "{published}");
    for (name, tensor, says) in [
        ("mlp.layers.6.bias", None, "tensor `mlp.layers.6.bias` is missing (expected with shape [16])"),
        ("blip.visual_encoder.pos_embed", Some(vec![1, 9, 24]), "has shape [1, 9, 24], expected [1, 10, 24]"),
        ("blip.text_encoder.encoder.layer.1.crossattention.self.key.weight", Some(vec![16, 16]), "expected [16, 24]"),
    ] {
        let folder = folder();
        let mut tensors = fixture("imagereward/model/ImageReward.safetensors");
        tensors.extend(head(16).into_iter().map(|(n, t)| (format!("mlp.{n}"), t)));
        assert!(tensors.remove(name).is_some());
        if let Some(shape) = tensor {
            tensors.insert(name.to_owned(), Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
        }
        save(&folder, tensors);
        let error = told(folder.path());
        assert!(error.contains(says) && error.contains(FILE), "{name}: {error}");
    }
    for (from, to, says) in [
        (
            "\"add_cross_attention\": true",
            "\"add_cross_attention\": false",
            "`add_cross_attention` is false, supported: true",
        ),
        ("\"max_position_embeddings\": 40", "\"max_position_embeddings\": 30", "is 30, 35 are needed"),
        ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"mish\"", "med_config.json does not hold what is expected"),
        ("\"num_attention_heads\": 2", "\"num_attention_heads\": 3", "`hidden_size` 16 is not a multiple"),
    ] {
        let folder = folder();
        let file = folder.path().join("model/med_config.json");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "med_config.json has no {from}");
        std::fs::write(file, text.replace(from, to)).unwrap();
        let error = told(folder.path());
        assert!(error.contains(says), "{to}: {error}");
    }
    for (sizes, says) in [
        (SMALL.replace("\"heads\": 3", "\"heads\": 5"), "`width` 24 is not a multiple of `heads` 5"),
        (SMALL.replace("\"layers\": 2", "\"layers\": 0"), "`layers` is 0, supported: 1 to 1024"),
        (SMALL.replace("\"layers\"", "\"depth\""), "vit_config.json does not hold what is expected"),
    ] {
        let folder = folder();
        std::fs::write(folder.path().join("model/vit_config.json"), sizes).unwrap();
        let error = told(folder.path());
        assert!(error.contains(says), "{error}");
    }
    // A tokenizer that knows more words than the network.
    let folder = folder();
    let file = folder.path().join("tokenizer/vocab.txt");
    std::fs::remove_file(folder.path().join("tokenizer/tokenizer.json")).unwrap();
    let words = std::fs::read_to_string(&file).unwrap() + "zebra\n";
    std::fs::write(file, words).unwrap();
    let reward = small(folder.path()).unwrap();
    let subject = opdflow_rewards::Subject { text: "a zebra", ..Default::default() };
    let error = reward.score(&images()[..1], &[subject]).unwrap_err().to_string();
    assert!(error.contains("the reward `imagereward` failed: the BERT tokenizer gives id"), "{error}");
}
