//! The miniature from nothing: its autoencoder, then its text encoders and transformer by flow matching on the
//! miniature world. Sizes come from the configuration files of a layout folder alone.

pub mod base;
pub mod reward_model;
pub mod vae;

use anyhow::Result;
use opdflow_kinds::stages::pretrain::Wrong;
use opdflow_miniature::{Mix, Prompt, Split};
use opdflow_models::rng::{Choices, derive};
use opdflow_rewards::Image;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use std::path::Path;

/// Copies the layout (configurations and tokenizers, no weights) to `to`.
pub(crate) fn place_layout(layout: &str, folder: &Path, to: &Path) -> Result<()> {
    match opdflow_kinds::model::bundle::named(layout) {
        Some(bundle) => bundle.place(to, opdflow_kinds::model::bundle::is_layout),
        None => opdflow_kinds::model::folder::copy(&folder.join(layout), to, opdflow_kinds::model::bundle::is_layout),
    }
}

/// The image of training prompt number `index`; with the family's probability it shows something else.
pub(crate) fn image(prompt: &Prompt, seed: u64, index: u64, wrong: &Wrong) -> Result<Image> {
    let mut rng = opdflow_miniature::stream(seed, index);
    let (share, times) = wrong.of(prompt.family);
    let mut shown = prompt.clone();
    if Choices::new(derive(seed, "wrong", index)).unit() < share {
        for _ in 0..times {
            shown = opdflow_miniature::corrupt(&shown, &mut rng)?;
        }
    }
    Ok(opdflow_miniature::render(&shown, &mut rng)?)
}

/// Images of the training prompts in `range`, drawn in parallel.
pub(crate) fn images(
    prompts: &[Prompt],
    seed: u64,
    range: std::ops::Range<usize>,
    wrong: &Wrong,
) -> Result<Vec<Image>> {
    range.into_par_iter().map(|i| image(&prompts[i], seed, i as u64, wrong)).collect()
}

/// The training prompts of a pretraining stage.
pub(crate) fn captions(mix: &Mix, count: usize, seed: u64) -> Vec<Prompt> {
    opdflow_miniature::prompts(mix, count, seed, Split::Train)
}
