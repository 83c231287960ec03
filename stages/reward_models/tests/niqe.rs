//! NIQE against BasicSR's, which is the authors' to five digits: `niqe/make_answers.py`.

use opdflow_models::weights::save_tensors;
use opdflow_rewards::niqe::features;
use opdflow_rewards::{Image, Subject};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Answer {
    width: usize,
    height: usize,
    rough: usize,
    features: Vec<Vec<f64>>,
    niqe: f64,
}

/// The image that the generator draws.
fn drawn(width: usize, height: usize, rough: usize) -> Image {
    let of = |i: usize| {
        let (c, x, y) = (i % 3, i / 3 % width, i / 3 / width);
        let noise = (x * 73 + y * 151 + c * 199) * (x + 3 * y + 7) % 251;
        let slope = (x * (2 + c) + y * (3 - c)) % 200;
        let square = 60 * ((x / 17 + y / 13) % 2);
        (((slope * (8 - rough) + noise * rough) / 8 + square) * 4 / 6 % 256) as u8
    };
    Image::new(width, height, (0..width * height * 3).map(of).collect()).unwrap()
}

fn answers() -> Vec<Answer> {
    serde_json::from_str(include_str!("niqe/answers.json")).unwrap()
}

#[test]
fn features_are_those_of_the_published_code() {
    for answer in answers() {
        let found = features(&drawn(answer.width, answer.height, answer.rough)).unwrap();
        assert_eq!(found.len(), answer.features.len());
        for (ours, theirs) in found.iter().flatten().zip(answer.features.iter().flatten()) {
            // It halves an image in 32 bits.
            assert!((ours - theirs).abs() < 1e-5 * theirs.abs().max(1.0), "{ours} is not {theirs}");
        }
    }
}

/// Statistics as the generator draws them, in a folder of the published form.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("pristine");
    std::fs::create_dir_all(&at).unwrap();
    let mean: Vec<f64> = (0..36).map(|i| f64::from(i % 7) * 0.3 + 0.5).collect();
    let root: Vec<f64> = (0..36 * 36)
        .map(|i| (i / 36, i % 36))
        .map(|(a, b)| f64::from(u8::from(a == b)) + 0.1 * f64::from((a * 5 + b * 3) % 4))
        .collect();
    let root = Tensor::from_slice(&root).view([36, 36]);
    let tensors = [
        ("mu_pris_param".to_owned(), Tensor::from_slice(&mean).view([1, 36])),
        ("cov_pris_param".to_owned(), root.matmul(&root.tr())),
        ("gaussian_window".to_owned(), Tensor::zeros([7, 7], (Kind::Double, Device::Cpu))),
    ];
    save_tensors(at.join("niqe.safetensors"), &tensors, Kind::Float).unwrap();
    dir
}

#[test]
fn the_distance_is_that_of_the_published_code() {
    let dir = folder();
    let niqe = opdflow_reward_models::open("niqe", dir.path(), Device::Cpu).unwrap();
    for answer in answers() {
        let image = drawn(answer.width, answer.height, answer.rough);
        let found = niqe.score(&[image], &[Subject::default()]).unwrap().remove(0).value;
        // The statistics are kept in 32 bits.
        assert!((found + answer.niqe).abs() < 1e-4 * answer.niqe, "{found} is not -{}", answer.niqe);
    }
}

#[test]
fn a_plain_image_is_far_off_and_a_tiny_one_is_refused() {
    let dir = folder();
    let niqe = opdflow_reward_models::open("niqe", dir.path(), Device::Cpu).unwrap();
    let score = |side: usize| {
        let image = Image::new(side, side, vec![128; side * side * 3]).unwrap();
        niqe.score(&[image], &[Subject::default()])
    };
    assert!(score(64).unwrap()[0].value.is_finite());
    let said = score(8).unwrap_err().to_string();
    assert!(said.contains("8 by 8 pixels has fewer than 16 on a side"), "{said}");
}

#[test]
fn statistics_that_cannot_be_right_are_refused() {
    let dir = folder();
    let file = dir.path().join("pristine/niqe.safetensors");
    let put = |mean: Tensor, covariance: Tensor| {
        Tensor::write_safetensors(&[("mu_pris_param", mean), ("cov_pris_param", covariance)], &file).unwrap();
        format!("{:#}", opdflow_reward_models::open("niqe", dir.path(), Device::Cpu).err().unwrap())
    };
    let (zeros, square) =
        (|n: i64| Tensor::zeros([n], (Kind::Float, Device::Cpu)), Tensor::eye(36, (Kind::Float, Device::Cpu)));
    let said = put(zeros(36) / 0.0, square.shallow_clone());
    assert!(said.contains("`mu_pris_param` holds NaN"), "{said}");
    assert!(put(zeros(35), square.shallow_clone()).contains("mu_pris_param"));
    for (covariance, says) in [
        (&square * 0.0, "0 everywhere"),
        (&square * -1.0, "no covariance"),
        (square.tril(0) + Tensor::ones([36, 36], (Kind::Float, Device::Cpu)).tril(-1), "not symmetric"),
    ] {
        let said = put(zeros(36), covariance);
        assert!(said.contains(says), "{said}");
    }
}
