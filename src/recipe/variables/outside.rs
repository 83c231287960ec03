//! What sets variables from outside of a recipe.

use super::varfile::Layer;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the command line changes in a recipe.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Files of variables, each laid over the recipe's `vars` and over the files before it.
    pub files: Vec<PathBuf>,
    /// Variables, as typed: `iters` -> `5`. The text is read as a YAML scalar, or as a list where the
    /// recipe has one. They are laid over those of files.
    pub vars: BTreeMap<String, String>,
    /// The recipe's seed. Stages that set their own keep it.
    pub seed: Option<u64>,
}

/// What sets variables from outside of the recipe.
pub(crate) struct Outside<'a> {
    /// Files of variables, the last one uppermost.
    pub layers: Vec<Layer>,
    /// The command line, above them.
    pub overrides: &'a Overrides,
    /// The texts of the files that a recipe may include, where these are not on the disk.
    pub texts: Option<BTreeMap<PathBuf, String>>,
}
