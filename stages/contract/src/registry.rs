//! The stage kinds of this build, by name.

use crate::{Kind, Stage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The stage kinds that a recipe may use.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<&'static str, Arc<dyn Kind>>);

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds a kind under the name that it gives itself. A second kind of the same name takes the place of the first.
    #[must_use]
    pub fn with(mut self, stage: impl Stage) -> Self {
        let kind: Arc<dyn Kind> = Arc::new(stage);
        self.0.insert(kind.describe().kind, kind);
        self
    }
    /// The kind of this name.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Kind>> {
        self.0.get(kind)
    }
    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }
    /// All kinds, by name.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<dyn Kind>> {
        self.0.values()
    }
}
