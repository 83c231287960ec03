//! LAION's aesthetic predictor: how beautiful an image is, whatever its prompt (Schuhmann 2022).

use crate::batches::numbers;
use crate::clip::{Checkpoint, Images};
use crate::head::Head;
use crate::judge::{Judge, Locked};
use crate::parts;
use crate::pixels::Pixels;
use anyhow::{Context, Result};
use opdflow_rewards::{Image, Reward, Score};
use opdflow_spec::reward_models::aesthetic::{HEAD, REWARD_MODEL};
use std::path::Path;
use tch::Device;

/// Opens it from the folder of its parts.
///
/// # Errors
/// A file is missing, malformed or not supported; the message names it.
pub fn open(folder: &Path, device: Device) -> Result<Box<dyn Reward>> {
    Ok(Box::new(Locked::new(Aesthetic::open(folder, device)?)))
}

/// A linear stack on CLIP's embedding of the image, which is brought to length 1 first.
pub struct Aesthetic {
    images: Images,
    head: Head,
}

impl Aesthetic {
    /// Opens it from the folder of its parts `clip` and `head`.
    ///
    /// # Errors
    /// A file is missing, malformed or not supported; the message names it.
    pub fn open(folder: &Path, device: Device) -> Result<Aesthetic> {
        let (clip, head) = (parts::folder(folder, &parts::CLIP)?, parts::folder(folder, &HEAD)?);
        // The text tower of the checkpoint is left where it is.
        let images = Images::new(&Checkpoint::open(&clip, None, device)?, Pixels::from_folder(&clip)?, device)?;
        let weights = parts::weights(&head, device)?;
        let head =
            Head::new(&weights.root(), images.width()).with_context(|| format!("cannot load {}", head.display()))?;
        weights.expect_all_used(|_| false)?;
        Ok(Aesthetic { images, head })
    }
}

impl Judge for Aesthetic {
    const NAME: &'static str = REWARD_MODEL.name;

    fn judge(&self, images: &[Image], _: &[&str]) -> Result<Vec<Score>> {
        let rows = self.images.encode(images)?;
        let values = tch::no_grad(|| numbers(&self.head.forward(&rows)))?;
        Ok(values.into_iter().map(|v| Score::new(v, [])).collect())
    }
}
