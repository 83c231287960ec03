//! NIQE: how far an image's features are from those of undistorted ones (Mittal, Soundararajan and Bovik 2013). It sees no
//! prompt, and nobody's opinion of images has gone into it.

use crate::parts;
use anyhow::{Context as _, Result, ensure};
use opdflow_models::init::Init;
use opdflow_rewards::niqe::{FEATURES, SMALLEST, features};
use opdflow_rewards::{Image, Reward, RewardError, Score, Subject};
use opdflow_spec::reward_models::niqe::{PRISTINE, REWARD_MODEL};
use std::path::Path;
use tch::{Device, Kind, Tensor, no_grad};

/// Opens it from the folder of its parts.
///
/// # Errors
/// The file is missing, malformed, or holds what is not finite; the message names it.
pub fn open(folder: &Path) -> Result<Box<dyn Reward>> {
    let at = parts::folder(folder, &PRISTINE)?;
    let weights = parts::weights(&at, Device::Cpu)?;
    let root = weights.root();
    let size = FEATURES as i64;
    // The published file has the mean as a row.
    let row = root.shape("mu_pris_param").is_some_and(|shape| shape.len() == 2);
    let shape: &[i64] = if row { &[1, size] } else { &[size] };
    let mean = root.get("mu_pris_param", shape, Init::Zeros)?.view([size]);
    let covariance = root.get("cov_pris_param", &[size, size], Init::Zeros)?;
    // The published file has the window too, which follows from its deviation.
    weights.expect_all_used(|name| name == "gaussian_window")?;
    check(&covariance.to_kind(Kind::Double)).with_context(|| at.display().to_string())?;
    let numbers = |tensor: &Tensor| -> Result<Vec<f64>> { Ok(Vec::try_from(tensor.to_kind(Kind::Double).view([-1]))?) };
    Ok(Box::new(Niqe { mean: numbers(&mean)?, covariance: numbers(&covariance)? }))
}

/// Whether a matrix, `[36, 36]`, can be a covariance: symmetric, without a negative variance in any direction, and not nothing. By any
/// other an image may be no distance away at all. In 32 bits a variance of 0 may be a little below it.
fn check(covariance: &Tensor) -> Result<()> {
    let largest = covariance.abs().max().double_value(&[]);
    ensure!(largest > 0.0, "`cov_pris_param` is 0 everywhere");
    let apart = (covariance - covariance.tr()).abs().max().double_value(&[]);
    ensure!(apart <= 1e-5 * largest, "`cov_pris_param` is not symmetric");
    let least = covariance.f_linalg_eigvalsh("L")?.min().double_value(&[]);
    ensure!(least >= -1e-5 * largest, "`cov_pris_param` is no covariance: it has an eigenvalue of {least:.3e}");
    Ok(())
}

/// Mean and covariance of undistorted images' features.
struct Niqe {
    mean: Vec<f64>,
    covariance: Vec<f64>,
}

impl Niqe {
    /// The distance of an image from them, equation 10: `sqrt((m - m')^T ((S + S') / 2)^-1 (m - m'))`, with `m'` and `S'` the mean
    /// and covariance over its blocks. Of a single block `S'` is 0.
    fn distance(&self, blocks: &[[f64; FEATURES]]) -> f64 {
        let (own, size) = (Tensor::from_slice2(blocks), FEATURES as i64);
        let mean = own.mean_dim([0i64].as_slice(), false, Kind::Double);
        let apart = Tensor::from_slice(&self.mean) - &mean;
        let mut covariance = Tensor::from_slice(&self.covariance).view([size, size]);
        if blocks.len() > 1 {
            covariance += own.tr().cov(1, None::<&Tensor>, None::<&Tensor>);
        }
        let inverse = (covariance / 2.0).linalg_pinv(1e-15, true);
        apart.dot(&inverse.mv(&apart)).clamp_min(0.0).sqrt().double_value(&[])
    }
}

impl Reward for Niqe {
    fn name(&self) -> &str {
        REWARD_MODEL.name
    }

    fn applies(&self, _: &Subject) -> bool {
        true
    }

    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        opdflow_rewards::check(images, subjects)?;
        let one = |image: &Image| {
            let small = || RewardError::Failed {
                reward: REWARD_MODEL.name.to_owned(),
                why: format!(
                    "an image of {} by {} pixels has fewer than {SMALLEST} on a side",
                    image.width, image.height
                ),
            };
            let blocks = features(image).ok_or_else(small)?;
            Ok(Score::new(-no_grad(|| self.distance(&blocks)), []))
        };
        images.iter().map(one).collect()
    }
}
