//! Fixtures, and what the tests of all rewards share.

use crate::place::{self, device};
use opdflow_models::weights::{read_tensors, save_tensors};
use opdflow_rewards::{Image, Reward, Score, Subject};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

pub use crate::place::close;

pub fn at(name: &str) -> PathBuf {
    place::at("rewards").join(name)
}

pub fn fixture(name: &str) -> BTreeMap<String, Tensor> {
    read_tensors(at(name), Device::Cpu, None).unwrap().0
}

pub fn image(bytes: &Tensor) -> Image {
    let (h, w, _) = bytes.size3().unwrap();
    Image::new(w as usize, h as usize, Vec::try_from(bytes.contiguous().view(-1)).unwrap()).unwrap()
}

pub fn images() -> Vec<Image> {
    let f = fixture("pixels.safetensors");
    (0..).map_while(|n| f.get(&format!("picture.{n}")).map(image)).collect()
}

pub fn prompts() -> Vec<String> {
    serde_json::from_str(&std::fs::read_to_string(at("prompts.json")).unwrap()).unwrap()
}

/// A reward model's folder with copies of these fixtures as its parts.
pub fn reward_model(parts: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (part, from) in parts {
        std::fs::create_dir(dir.path().join(part)).unwrap();
        for entry in std::fs::read_dir(at(from)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(part).join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

/// The linear stack's weights by the rule in `make_fixtures.py`.
pub fn head(width: i64) -> Vec<(String, Tensor)> {
    let rule = |shape: &[i64], n: i64, scale: f64| {
        let k = Tensor::arange(shape.iter().product::<i64>(), (Kind::Int64, Device::Cpu));
        let x = (k * 7919 + n * 104_729).remainder(2003).to_kind(Kind::Double) / 1001.0 - 1.0;
        (x * scale).to_kind(Kind::Float).view(shape)
    };
    let mut tensors = Vec::new();
    let mut width = width;
    for (n, (name, out)) in (0..).zip([(0, 1024), (2, 128), (4, 64), (6, 16), (7, 1)]) {
        tensors.push((format!("layers.{name}.weight"), rule(&[out, width], n, 2.0 * (width as f64).powf(-0.5))));
        tensors.push((format!("layers.{name}.bias"), rule(&[out], n + 100, 0.1)));
        width = out;
    }
    tensors
}

pub fn aesthetic() -> TempDir {
    let dir = reward_model(&[("clip", "clip")]);
    std::fs::create_dir(dir.path().join("head")).unwrap();
    save_tensors(dir.path().join("head/head.safetensors"), &head(12), Kind::Float).unwrap();
    dir
}

pub fn open(name: &str, folder: &TempDir) -> anyhow::Result<Box<dyn Reward>> {
    opdflow_reward_models::open(name, folder.path(), device())
}

pub fn error(name: &str, folder: &TempDir) -> String {
    match open(name, folder) {
        Ok(_) => panic!("{name} opened"),
        Err(e) => format!("{e:#}"),
    }
}

pub fn scores(reward: &dyn Reward, images: &[Image], prompts: &[String]) -> Vec<Score> {
    let subjects: Vec<Subject> = prompts.iter().map(|text| Subject { text, ..Subject::default() }).collect();
    reward.score(images, &subjects).unwrap()
}
