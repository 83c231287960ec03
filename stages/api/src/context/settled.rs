//! What a stage found out about a machine by trying, so that its next attempt on such a machine need not: it is kept with the
//! checkpoints, has no part in the result's meaning, and is in no key.

use opdflow_cache::Checkpoint;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file of a checkpoint that holds it.
const FILE: &str = "settled.json";

/// The batch that fitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// The kind of device, such as the name of a GPU's model.
    pub device: String,
    /// Rows of one forward and backward pass.
    pub micro_batch: usize,
}

impl Settled {
    /// Puts it into a checkpoint's folder.
    pub fn keep(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::write(folder.join(FILE), serde_json::to_vec(self)?)
    }

    /// What was kept with a checkpoint; nothing if there was none, or if it cannot be read.
    pub fn kept(checkpoint: &Checkpoint) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(checkpoint.path.join(FILE)).ok()?).ok()
    }
}
