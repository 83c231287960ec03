//! The shape of a recipe.

use super::{Diagnostic, Overrides, Recipe};
use opdflow_stage::Registry;
use std::path::Path;

pub(super) fn recipe(_path: &Path, _text: &str, _registry: &Registry, _overrides: &Overrides, _faults: &mut Vec<Diagnostic>) -> Option<Recipe> {
    None
}
