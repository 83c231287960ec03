//! The miniature from nothing: its autoencoder, then its text encoders and transformer by flow matching on the
//! miniature world. Sizes come from the configuration files of a layout folder alone.

mod base;
mod vae;

pub use base::PretrainBase;
pub use vae::PretrainVae;

use anyhow::{Context as _, Result};
use opdflow_flow::muon::MuonConfig;
use opdflow_flow::optim::EmaConfig;
use opdflow_flow::train::Pace;
use opdflow_stage::cache::Digest;
use opdflow_stage::{Asset, ParamFault};
use opdflow_world::{Mix, Picture, Prompt, Split};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What both stages have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schooling {
    /// Optimiser steps.
    pub steps: u64,
    /// Pictures in a step.
    pub batch: usize,
    /// Pictures drawn from the world, walked through in shuffled passes.
    pub pictures: usize,
    /// Optimiser.
    pub optimiser: MuonConfig,
    /// Learning-rate schedule.
    pub pace: Pace,
    /// Running average of the weights; it is what is kept.
    pub ema: EmaConfig,
}

impl Default for Schooling {
    fn default() -> Self {
        Self {
            steps: 3000, batch: 32, pictures: 20_000, optimiser: MuonConfig::default(), pace: Pace::default(),
            ema: EmaConfig { decay: 0.995, every: 1 },
        }
    }
}

/// Where the layout lies: `bundled:mini`, or a folder relative to the recipe.
pub(crate) fn layout_asset(layout: &str, folder: &Path) -> Result<Asset, ParamFault> {
    let digest = match crate::bundle::named(layout) {
        Some(bundle) => bundle.layout_digest(),
        None => tree_digest(&folder.join(layout)).map_err(|e| ParamFault::new("layout", format!("{e:#}")).help("write `bundled:mini`, or a folder in diffusers layout"))?,
    };
    Ok(Asset { name: "layout".to_owned(), digest })
}

/// Copies the layout (configurations and tokenizers, no weights) to `to`.
pub(crate) fn place_layout(layout: &str, folder: &Path, to: &Path) -> Result<()> {
    match crate::bundle::named(layout) {
        Some(bundle) => bundle.place(to, crate::bundle::is_layout),
        None => crate::bundle::copy_folder(&folder.join(layout), to, crate::bundle::is_layout),
    }
}

fn tree_digest(folder: &Path) -> Result<Digest> {
    let mut files: Vec<(PathBuf, Digest)> = Vec::new();
    for relative in crate::bundle::files_below(folder)? {
        if crate::bundle::is_layout(&relative) {
            let digest = Digest::of_file(&folder.join(&relative)).with_context(|| relative.display().to_string())?;
            files.push((relative, digest));
        }
    }
    Ok(crate::bundle::listing_digest(files.iter().map(|(p, d)| (p.as_path(), *d))))
}

/// A picture of the world with the caption that goes with it, right or wrong.
pub(crate) struct Sample {
    pub caption: String,
    pub picture: Picture,
}

/// Sample number `index` of `seed`: its caption is drawn from the training split; with probability `wrong` the
/// picture shows something else.
pub(crate) fn sample(prompt: &Prompt, seed: u64, index: u64, wrong: f64) -> Result<Sample> {
    let mut rng = opdflow_world::stream(seed, index);
    let lies = opdflow_flow::rng::Choices::new(opdflow_flow::rng::derive(seed, "wrong", index)).unit() < wrong;
    let shown = if lies { opdflow_world::corrupt(prompt, &mut rng)? } else { prompt.clone() };
    Ok(Sample { caption: prompt.text.clone(), picture: opdflow_world::render(&shown, &mut rng)? })
}

/// Samples `range` of the training prompts, drawn in parallel.
pub(crate) fn samples(prompts: &[Prompt], seed: u64, range: std::ops::Range<usize>, wrong: f64) -> Result<Vec<Sample>> {
    range.into_par_iter().map(|i| sample(&prompts[i], seed, i as u64, wrong)).collect()
}

/// The training prompts of a pretraining stage.
pub(crate) fn captions(count: usize, seed: u64) -> Vec<Prompt> {
    opdflow_world::prompts(&Mix::all(), count, seed, Split::Train)
}
