//! The stage kinds of a program, by name.

use crate::{Description, Kind, Stage, StageContext, Worker, kind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The stage kinds that a recipe may use. It knows nothing of what runs a stage.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<&'static str, Arc<dyn Kind>>);

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds a kind under the name that it gives itself. A second one of the same name takes the place of the first.
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

/// A kind with the function that does its work.
struct Bound<S, F> {
    stage: S,
    run: F,
}

impl<S: Stage, F> Worker for Bound<S, F>
where
    F: Fn(S::Params, &mut StageContext) -> anyhow::Result<()> + Send + Sync,
{
    fn describe(&self) -> Description {
        Stage::describe(&self.stage)
    }
    fn run(&self, params: &Value, context: &mut StageContext) -> anyhow::Result<()> {
        (self.run)(kind::typed(&self.stage, params)?, context)
    }
}

/// The stages that a program can run.
#[derive(Clone, Default)]
pub struct Workers(BTreeMap<&'static str, Arc<dyn Worker>>);

impl Workers {
    /// No workers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds what does the work of a kind, under the name that the kind gives itself: `run` is given the parameters as their
    /// type. It reads only through the context, leaves every output that [`crate::Description::outputs`] promises, polls
    /// [`StageContext::should_stop`] and checkpoints if it runs for more than a few seconds. A [`crate::Fault`] somewhere
    /// in the chain of its error says whose fault it is; anything else counts as a bug.
    #[must_use]
    pub fn with<S: Stage, F>(mut self, stage: S, run: F) -> Self
    where
        F: Fn(S::Params, &mut StageContext) -> anyhow::Result<()> + Send + Sync + 'static,
    {
        let worker: Arc<dyn Worker> = Arc::new(Bound { stage, run });
        self.0.insert(worker.describe().kind, worker);
        self
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
