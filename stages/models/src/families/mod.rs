//! The families of models, one folder each: what of a family computes. The folder of the same name in `opdflow-spec` has what
//! is known of it without a tensor. Nothing outside of a family's two folders names what is in them; docs/how-to/model-family.md says how
//! to add one.

mod parts;

pub use opdflow_spec::families::{
    FAMILIES, either, known, needed, of_class, of_index, of_layer, single, titles_of_single_files,
};

use crate::base_files::BaseFiles;
use crate::network::{Folder, Loader};
use anyhow::{Context as _, Result};
use std::path::Path;

macro_rules! loaders {
    ($($family:ident),+ $(,)?) => {
        $(pub mod $family;)+

        /// In the order of [`FAMILIES`].
        static LOADERS: &[&dyn Loader] = &[$(&$family::FAMILY),+];
    };
}

opdflow_spec::for_families!(loaders);

/// The model at `path`, a folder in diffusers' layout, a single file, or a download cache. `variant`: which of several files of
/// weights a part has.
///
/// # Errors
/// Nothing there that is a model of a known family.
pub fn open(path: impl AsRef<Path>, variant: Option<String>) -> Result<Box<dyn Folder>> {
    let files = BaseFiles::of(path.as_ref())?;
    let class = files.family()?.class();
    let loader = FAMILIES.iter().zip(LOADERS).find(|(family, _)| family.class() == class).map(|(_, loader)| loader);
    loader.with_context(|| format!("a bug in opdflow: nothing loads {class}"))?.open(files, variant)
}
