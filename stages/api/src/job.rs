//! One stage, ready to run.

pub mod rank;

use crate::port::OfSeed;
use crate::{Environment, Warning};
use opdflow_cache::{Digest, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One stage with everything that its process needs. The scheduler writes it as JSON; paths are the machine's own
/// and not part of any key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The stage's name in the recipe, for messages only.
    pub name: String,
    /// The stage kind.
    pub kind: String,
    /// Normalised parameters.
    pub params: Value,
    /// Artefacts by port; those of a map port as `port.name`.
    pub inputs: BTreeMap<String, JobInput>,
    /// The seed.
    pub seed: u64,
    /// The stage's key.
    pub key: Digest,
    /// The key less the horizon: checkpoints live under it.
    pub lineage: Digest,
    /// The manifest that the key was made from, kept whole in the action record.
    pub manifest: Value,
    /// Threads that the stage may use, in each of its processes.
    pub threads: usize,
    /// How many processes share the stage's work. It changes nothing of what they make.
    #[serde(default = "one")]
    pub ranks: usize,
    /// Seconds that one of several processes waits for the others before it gives them up.
    #[serde(default = "deadline_seconds")]
    pub deadline_seconds: f64,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// What its process finds in its environment, beside the user's own.
    #[serde(default)]
    pub environment: Environment,
    /// The recipe's folder, for relative paths in parameters.
    pub folder: PathBuf,
    /// Root of the store.
    pub store: PathBuf,
    /// Seconds between the checkpoints that the stage makes without being asked.
    pub checkpoint_seconds: f64,
    /// Compute even if the result is there already (the result is then kept as another attempt).
    pub force: bool,
    /// The program and its version, for the record.
    #[serde(default)]
    pub program: String,
    /// What the recipe and its files are doubted for, found before the run: for the stage's log. Nothing of it is kept
    /// with the result, because it is found again each time.
    #[serde(default)]
    pub doubts: Vec<Warning>,
    /// The stage's folder for images on the way of a training, in that of the run; without it none are made.
    #[serde(default)]
    pub samples: Option<PathBuf>,
    /// Facts for the record beside its own: what its time and its size hold for.
    #[serde(default)]
    pub note: BTreeMap<String, String>,
}

impl Job {
    /// How long a process of the stage waits for the others before it gives them up.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_secs_f64(self.deadline_seconds.clamp(1.0, 1e7))
    }
    /// Whether it holds a GPU while it runs.
    #[must_use]
    pub fn on_gpu(&self) -> bool {
        self.device.starts_with("cuda")
    }
}

const fn one() -> usize {
    1
}

const fn deadline_seconds() -> f64 {
    rank::DEADLINE_SECONDS
}

/// An artefact on an input port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobInput {
    /// Where in the store.
    pub object: Object,
    /// Its port type.
    pub port_type: String,
    /// What it is a seed of, if it is one of several that a matrix was collected from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_seed: Option<OfSeed>,
}
