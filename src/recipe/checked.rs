//! A recipe that was read and checked.

use super::lock::Locked;
use super::numerics::Numerics;
use super::spans::Spans;
use super::text::diagnostic::{Diagnostic, Diagnostics};
use super::text::source::Sources;
use opdflow_api::{Connection, Kind, OfSeed, Ports};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The recipe format that this build reads.
pub const FORMAT: u64 = 1;

/// Most threads that a stage, or all of them together, may be given: libraries start as many as they are told.
pub const MOST_THREADS: usize = 4096;
/// More processes than any stage has.
pub const MOST_RANKS: usize = 1024;

/// A checked recipe: every kind, port, parameter and variable in it is known to fit.
#[derive(Clone)]
pub struct Recipe {
    /// Where it was read from, as the user named it.
    pub path: PathBuf,
    /// The folder it lies in: relative paths in parameters start here.
    pub folder: PathBuf,
    /// Its text and those that it includes; all spans point into them.
    pub sources: Sources,
    /// Its name.
    pub name: String,
    /// The seed of every stage that does not set its own.
    pub seed: u64,
    /// What the numeric part of a key holds.
    pub numerics: Numerics,
    /// The stages, in the order of the file.
    pub stages: Vec<StageSpec>,
    /// Where things stand in the text.
    pub spans: Spans,
    /// What is legal but looks like a mistake.
    pub warnings: Vec<Diagnostic>,
    /// The lock that it was read from, if it was.
    pub locked: Option<Arc<Locked>>,
}

/// One stage of a recipe.
#[derive(Clone)]
pub struct StageSpec {
    /// Its name in the recipe.
    pub name: String,
    /// What it does.
    pub kind: Arc<dyn Kind>,
    /// Its parameters, defaults filled in.
    pub params: serde_json::Value,
    /// What it reads: by port, or `port.name` for one of a map port.
    pub needs: BTreeMap<String, PortRef>,
    /// Those of them that are one of several seeds of a matrix.
    pub of_seed: BTreeMap<String, OfSeed>,
    /// Its seed: its own, or the recipe's.
    pub seed: u64,
    /// Threads, if the recipe says. Not in the key.
    pub cpus: Option<usize>,
    /// Bytes of a GPU's memory, if the recipe says: the stage may then share one. Not in the key.
    pub gpu_memory: Option<u64>,
    /// How many processes share its work, if the recipe says. Not in the key.
    pub ranks: Option<usize>,
    /// On how many GPUs it runs where there are so many, each with a process of its own, if the recipe says. Not in the key.
    pub gpus: Option<usize>,
    /// Seconds that one of several processes waits for the others, if the recipe says. Not in the key.
    pub deadline: Option<u64>,
    /// The folder of the file that it is written in: its relative paths start there. Not in the key.
    pub folder: PathBuf,
}

impl StageSpec {
    /// Its connected ports, as its kind sees them.
    #[must_use]
    pub fn ports(&self) -> Ports {
        let of_seed = |port: &String| self.of_seed.get(port).cloned();
        let one = |(port, from): (&String, &PortRef)| {
            (port.clone(), Connection { source: from.to_string(), of_seed: of_seed(port) })
        };
        self.needs.iter().map(one).collect()
    }
}

/// An output of another stage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PortRef {
    /// The stage.
    pub stage: String,
    /// Its output port.
    pub port: String,
}

impl std::fmt::Display for PortRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.stage, self.port)
    }
}

impl Recipe {
    /// The stage of this name, and its place in [`Recipe::stages`].
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<(usize, &StageSpec)> {
        self.stages.iter().enumerate().find(|(_, s)| s.name == name)
    }
    /// The warnings, ready to be shown.
    #[must_use]
    pub fn warnings(&self) -> Diagnostics {
        self.diagnostics(self.warnings.clone())
    }
    /// Binds diagnostics to this recipe's text, sorted by place.
    #[must_use]
    pub fn diagnostics(&self, list: Vec<Diagnostic>) -> Diagnostics {
        Diagnostics::of(self.sources.clone(), list)
    }
}
