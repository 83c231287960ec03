//! The text of a recipe: YAML as values that know where they stand, and mistakes shown at their places.

pub(crate) mod bound;
pub(crate) mod diagnostic;
pub(crate) mod near;
pub(crate) mod places;
pub(crate) mod shape;
pub(crate) mod show;
pub(crate) mod size;
pub(crate) mod source;
pub(crate) mod tree;
