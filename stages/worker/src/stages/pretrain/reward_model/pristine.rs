//! NIQE's statistics of the miniature's own images.

use super::images::{Images, Sort};
use crate::runtime::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::StageContext;
use opdflow_models::weights::save_tensors;
use opdflow_rewards::niqe::{FEATURES, features};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use std::path::Path;
use tch::{Kind, Tensor};

/// Writes mean and covariance of the features of `count` drawn images, one of each prompt.
///
/// # Errors
/// A prompt that the world cannot draw; stopped as asked; a full disk.
pub fn write(images: &Images, count: usize, folder: &Path, context: &StageContext) -> Result<()> {
    context.go_on(0)?;
    let one = |index: usize| -> Result<Vec<[f64; FEATURES]>> {
        let drawn = images.candidate(index, Sort::Right, index as u64, false)?.image;
        features(&drawn).context("an image of the miniature is too small for NIQE")
    };
    let found: Vec<_> = (0..count.min(images.prompts.len())).into_par_iter().map(one).collect::<Result<_>>()?;
    let rows = Tensor::from_slice2(&found.concat());
    let mean = rows.mean_dim([0i64].as_slice(), false, Kind::Double);
    let covariance = rows.tr().cov(1, None::<&Tensor>, None::<&Tensor>);
    std::fs::create_dir_all(folder).context("making the folder of the statistics")?;
    let values = [("mu_pris_param".to_owned(), mean), ("cov_pris_param".to_owned(), covariance)];
    save_tensors(folder.join("pristine.safetensors"), &values, Kind::Float).map_err(|e| unfit(&e).into())
}
