//! A published CLIP checkpoint: its layout, configuration and weights.

use super::config::Config;
use super::open_clip;
use super::vision::Vision;
use crate::parts;
use anyhow::{Context, Result, ensure};
use opdflow_models::init::Init;
use opdflow_models::text::clip::ClipText;
use opdflow_models::weights::Weights;
use std::path::{Path, PathBuf};
use tch::Device;

/// A folder with a checkpoint, opened.
pub struct Checkpoint {
    folder: PathBuf,
    config: Config,
    weights: Weights,
}

impl Checkpoint {
    /// Opens `folder`: transformers' `CLIPModel` with its `config.json`, or a checkpoint of open_clip or OpenAI with
    /// `open_clip_config.json`. `usual` is the configuration of a checkpoint of the second kind that comes without one.
    ///
    /// # Errors
    /// There are no weights, or the configuration is missing or not supported.
    pub fn open(folder: &Path, usual: Option<Config>, device: Device) -> Result<Checkpoint> {
        let weights = parts::weights(folder, device)?;
        let (weights, config) = if weights.root().has("visual.conv1.weight") {
            let file = folder.join("open_clip_config.json");
            let config = match usual {
                Some(config) if !opdflow_io::file::is_named(&file) => config,
                _ => Config::open_clip(&file)?,
            };
            (weights.with_layout(open_clip::place), config)
        } else {
            (weights, Config::transformers(&folder.join("config.json"))?)
        };
        Ok(Checkpoint { folder: folder.to_path_buf(), config, weights })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The vision tower.
    ///
    /// # Errors
    /// A tensor is missing or of another shape.
    pub fn vision(&self) -> Result<Vision> {
        Vision::new(&self.weights.root(), &self.config.vision).with_context(|| self.what())
    }

    /// The text tower.
    ///
    /// # Errors
    /// As for [`Checkpoint::vision`].
    pub fn text(&self) -> Result<ClipText> {
        ClipText::new(&self.weights.root(), &self.config.text).with_context(|| self.what())
    }

    /// What a cosine is multiplied by: the exponential of `logit_scale`.
    ///
    /// # Errors
    /// The tensor is missing, or not a number.
    pub fn scale(&self) -> Result<f64> {
        let log = self.weights.root().get("logit_scale", &[], Init::Zeros).with_context(|| self.what())?;
        let scale = log.double_value(&[]).exp();
        ensure!(scale.is_finite(), "{}: `logit_scale` is {}", self.folder.display(), scale.ln());
        Ok(scale)
    }

    /// Fails when the files hold tensors of which nobody took any: they are then of a network with more to it.
    ///
    /// # Errors
    /// The tensors' names.
    pub fn finish(self) -> Result<()> {
        // Buffers that older versions wrote beside the parameters.
        self.weights.expect_all_used(|name| name.ends_with("position_ids") || name == "attn_mask")
    }

    fn what(&self) -> String {
        format!("cannot load {}", self.folder.display())
    }
}
