//! The parts of a folder in diffusers' layout: each a folder of its own with a configuration and weights,
//! and `model_index.json` to say of which class it is.

use crate::config::{read_json, supported};
use crate::weights::{self, Weights, shard_paths};
use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;
use tch::{Device, Kind};

/// A folder with `model_index.json`.
pub(crate) struct Parts {
    folder: PathBuf,
    index: Value,
    /// Which of several files of weights a part has.
    variant: Option<String>,
}

impl Parts {
    pub(crate) fn new(folder: PathBuf, index: Value, variant: Option<String>) -> Parts {
        Parts { folder, index, variant }
    }

    /// The folder, for messages.
    pub(crate) fn at(&self) -> std::path::Display<'_> {
        self.folder.display()
    }

    /// The folder of a part that must be there as one of these classes.
    pub(crate) fn part(&self, name: &str, classes: &[&str]) -> Result<PathBuf> {
        let class = self.index.get(name).and_then(|v| v.get(1)).and_then(Value::as_str);
        let Some(class) = class else { bail!("{}: model_index.json names no `{name}`", self.at()) };
        let what = format!("{}/model_index.json", self.at());
        supported(&what, name, class, classes.contains(&class), &classes.join(", "))?;
        let at = self.folder.join(name);
        ensure!(at.is_dir(), "{}: the part `{name}` ({class}) is absent", at.display());
        Ok(at)
    }

    /// A part's configuration.
    pub(crate) fn config<C: DeserializeOwned>(&self, name: &str, class: &str) -> Result<C> {
        read_json(&self.part(name, &[class])?.join("config.json"))
    }

    /// One part: configuration and weights to a model, and the tensors that it took.
    pub(crate) fn build<C: DeserializeOwned, M>(
        &self,
        name: &str,
        class: &str,
        device: Device,
        kind: Kind,
        make: impl FnOnce(&Weights, C) -> Result<M>,
    ) -> Result<(M, Weights)> {
        let at = self.part(name, &[class])?;
        let config: C = read_json(&at.join("config.json"))?;
        for shard in shard_paths(&at, self.variant.as_deref())? {
            weights::check(shard, |_| true)?;
        }
        let weights = Weights::load_variant(&at, self.variant.as_deref(), device, kind)?;
        let model = make(&weights, config).with_context(|| format!("cannot load {}", at.display()))?;
        // What other versions of the libraries write beside the parameters: buffers, a tied copy, a projection of the same
        // encoder that this class does not have.
        let silent = ["encoder.embed_tokens.weight", "text_projection.weight"];
        weights.expect_all_used(|n| n.ends_with("position_ids") || silent.contains(&n))?;
        Ok((model, weights))
    }
}
