//! CLIPScore: how well an image fits its prompt, by OpenAI's CLIP.

use crate::clip::{Checkpoint, Clip};
use crate::judge::{Judge, Locked};
use crate::parts;
use crate::pixels::{Fit, Pixels};
use anyhow::Result;
use opdflow_rewards::{Image, Reward, Score};
use opdflow_spec::reward_models::clipscore::REWARD_MODEL;
use std::path::Path;
use tch::Device;

/// Opens it from the folder of its parts.
///
/// # Errors
/// A file is missing, malformed or not supported; the message names it.
pub fn open(folder: &Path, device: Device) -> Result<Box<dyn Reward>> {
    Ok(Box::new(Locked::new(ClipScore::open(folder, device)?)))
}

/// What the logit is divided by, as in DiffusionNFT; Flow-GRPO divides by 30. The model's own scale is 100, so that the
/// cosine remains.
const DIVISOR: f64 = 100.0;

/// The logit of image and prompt, divided by 100. Part `logit`: before the division.
///
/// Images are made as in the scorer of Flow-GRPO and DiffusionNFT, which does not use the model's own processor:
/// torchvision's `Resize` on tensors, thus bilinear, and `CenterCrop`. Mean and deviation are those of
/// `preprocessor_config.json`.
pub struct ClipScore {
    clip: Clip,
}

impl ClipScore {
    /// Opens it from the folder of its part `clip`.
    ///
    /// # Errors
    /// A file is missing, malformed or not supported; the message names it.
    pub fn open(folder: &Path, device: Device) -> Result<ClipScore> {
        let at = parts::folder(folder, &parts::CLIP)?;
        let pixels = Pixels { fit: Fit::Tensor, ..Pixels::from_folder(&at)? };
        Ok(ClipScore { clip: Clip::new(Checkpoint::open(&at, None, device)?, &at, pixels, device)? })
    }
}

impl Judge for ClipScore {
    const NAME: &'static str = REWARD_MODEL.name;

    fn judge(&self, images: &[Image], texts: &[&str]) -> Result<Vec<Score>> {
        let cosines = self.clip.cosines(images, texts)?;
        let logits = cosines.into_iter().map(|c| c * self.clip.scale());
        Ok(logits.map(|l| Score::new(l / DIVISOR, [("logit", l)])).collect())
    }
}
