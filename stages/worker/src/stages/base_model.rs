//! `base_model` at work: where everything begins.

use crate::artefacts::outside;
use crate::runtime::unfit;
use anyhow::Result;
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::model::model_folder::Own;
use opdflow_kinds::model::{bundle, folder, model_folder};
use opdflow_kinds::stages::base_model::Params;
use opdflow_models::families;
use opdflow_models::weights::check_numbers;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use std::path::{Path, PathBuf};

/// Places a model whose numbers were held against being finite, as a folder in diffusers' layout or a single file.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let Some(bundle) = bundle::named(&params.source) else { return import(&params.source, context) };
    let out = context.output("model");
    bundle.place(&out, |_| true)?;
    families::open(&out, None).map(drop)
}

/// Takes a user's folder in, and makes sure that it is the one that the key stands for.
fn import(source: &str, context: &mut StageContext) -> Result<()> {
    let folder = context.job().folder.join(source);
    let again = "download or export the model again";
    // Looked over where it lies, so that a fault is named by the user's own path and no broken copy is kept.
    let files = model_folder::files(&folder).map_err(|missing| Fault::user(missing.join("\n")).help(again))?;
    check(&folder, &files).map_err(|e| unfit::broken(&e, "").unwrap_or_else(|| Fault::about(&e).help(again)))?;
    let listed: Vec<(String, PathBuf)> =
        files.into_iter().map(|f| (f.name.to_string_lossy().into_owned(), f.path)).collect();
    let stored = context.adopt("model", &listed)?;
    let found = folder::listing_digest(stored.iter().map(|e| (Path::new(&e.path), e.digest)));
    outside::expect(context, "model", found, &folder)
}

/// Whether the layout is there, every file of weights is as long as its header says, and every number in it finite. Which
/// tensors a model needs is known only once it is built.
fn check(source: &Path, files: &[Own]) -> Result<()> {
    families::open(source, None)?;
    let weights = files.par_iter().filter(|f| f.name.extension().is_some_and(|e| e == "safetensors"));
    weights.map(|file| check_numbers(&file.path)).collect()
}
