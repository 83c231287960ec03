//! HPSv2.1: how much people would like an image for a prompt (Wu et al. 2023).

use crate::clip::{Checkpoint, Clip, Config};
use crate::judge::{Judge, Locked};
use crate::parts;
use crate::pixels::{Fit, Pixels};
use anyhow::Result;
use opdflow_rewards::{Image, Reward, Score};
use opdflow_spec::reward_models::hpsv2::{MODEL, REWARD_MODEL, TOKENIZER};
use std::path::Path;
use tch::Device;

/// Opens it from the folder of its parts.
///
/// # Errors
/// A file is missing, malformed or not supported; the message names it.
pub fn open(folder: &Path, device: Device) -> Result<Box<dyn Reward>> {
    Ok(Box::new(Locked::new(Hpsv2::open(folder, device)?)))
}

/// The cosine of image and prompt, in f32 where the published program lets the GPU use halves.
///
/// The checkpoint is open_clip's ViT-H-14; an `open_clip_config.json` beside it may say otherwise. The image is seen
/// whole: its longer side is resized on floats, and black fills the square.
pub struct Hpsv2 {
    clip: Clip,
}

impl Hpsv2 {
    /// Opens it from the folder of its parts `model` and `tokenizer`.
    ///
    /// # Errors
    /// A file is missing, malformed or not supported; the message names it.
    pub fn open(folder: &Path, device: Device) -> Result<Hpsv2> {
        let (model, tokenizer) = (parts::folder(folder, &MODEL)?, parts::folder(folder, &TOKENIZER)?);
        let checkpoint = Checkpoint::open(&model, Some(Config::vit_h_14()), device)?;
        let pixels = Pixels::clip(Fit::Padded, usize::try_from(checkpoint.config().vision.image_size)?);
        Ok(Hpsv2 { clip: Clip::new(checkpoint, &tokenizer, pixels, device)? })
    }
}

impl Judge for Hpsv2 {
    const NAME: &'static str = REWARD_MODEL.name;

    fn judge(&self, images: &[Image], texts: &[&str]) -> Result<Vec<Score>> {
        Ok(self.clip.cosines(images, texts)?.into_iter().map(|c| Score::new(c, [])).collect())
    }
}
