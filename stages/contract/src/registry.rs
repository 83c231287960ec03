//! The stage kinds of a program, by name.

use crate::{Kind, Stage, Worker};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Takes in stages, each for what it needs of them. A list of stages that is written for any set serves the engine
/// and the stages' processes alike, so that the two cannot differ.
pub trait StageSet: Sized {
    /// Adds a stage under the name that it gives itself. A second stage of the same name takes the place of the first.
    #[must_use]
    fn with(self, stage: impl Stage) -> Self;
}

/// The stage kinds that a recipe may use. It refers to nothing that runs a stage.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<&'static str, Arc<dyn Kind>>);

impl StageSet for Registry {
    fn with(mut self, stage: impl Stage) -> Self {
        let kind: Arc<dyn Kind> = Arc::new(stage);
        self.0.insert(kind.describe().kind, kind);
        self
    }
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// The kind of this name.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Kind>> {
        self.0.get(kind)
    }
    /// The kind that earlier versions called so.
    #[must_use]
    pub fn former(&self, name: &str) -> Option<&Arc<dyn Kind>> {
        self.0.values().find(|kind| kind.formerly().contains(&name))
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

/// The stages that a program can run.
#[derive(Clone, Default)]
pub struct Workers(BTreeMap<&'static str, Arc<dyn Worker>>);

impl StageSet for Workers {
    fn with(mut self, stage: impl Stage) -> Self {
        let worker: Arc<dyn Worker> = Arc::new(stage);
        self.0.insert(worker.describe().kind, worker);
        self
    }
}

impl Workers {
    /// No workers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// The worker for stages of this kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Worker>> {
        self.0.get(kind)
    }
    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }
}
