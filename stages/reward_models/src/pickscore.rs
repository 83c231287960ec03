//! PickScore: which image people would pick for a prompt (Kirstain et al. 2023).

use crate::clip::{Checkpoint, Clip};
use crate::judge::{Judge, Locked};
use crate::parts;
use crate::pixels::Pixels;
use anyhow::Result;
use opdflow_rewards::{Image, Reward, Score};
use opdflow_spec::reward_models::pickscore::{MODEL, REWARD_MODEL, TOKENIZER};
use std::path::Path;
use tch::Device;

/// Opens it from the folder of its parts.
///
/// # Errors
/// A file is missing, malformed or not supported; the message names it.
pub fn open(folder: &Path, device: Device) -> Result<Box<dyn Reward>> {
    Ok(Box::new(Locked::new(PickScore::open(folder, device)?)))
}

/// What the published score is divided by in training, as in Flow-GRPO.
const DIVISOR: f64 = 26.0;

/// The model's logit of image and prompt, divided by 26. Part `raw`: the published score itself, about 20 to 25, which
/// tables show.
pub struct PickScore {
    clip: Clip,
}

impl PickScore {
    /// Opens it from the folder of its parts `model` and `tokenizer`.
    ///
    /// # Errors
    /// A file is missing, malformed or not supported; the message names it.
    pub fn open(folder: &Path, device: Device) -> Result<PickScore> {
        let (model, processor) = (parts::folder(folder, &MODEL)?, parts::folder(folder, &TOKENIZER)?);
        let pixels = Pixels::from_folder(&processor)?;
        Ok(PickScore { clip: Clip::new(Checkpoint::open(&model, None, device)?, &processor, pixels, device)? })
    }
}

impl Judge for PickScore {
    const NAME: &'static str = REWARD_MODEL.name;

    fn judge(&self, images: &[Image], texts: &[&str]) -> Result<Vec<Score>> {
        let cosines = self.clip.cosines(images, texts)?;
        let raw = cosines.into_iter().map(|c| c * self.clip.scale());
        Ok(raw.map(|r| Score::new(r / DIVISOR, [("raw", r)])).collect())
    }
}
