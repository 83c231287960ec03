//! CLIP: images and words in one space, in which a cosine says how well they go together.
//!
//! The network is written once, by transformers' names; checkpoints in open_clip's layout are read through
//! [`open_clip::place`].

mod checkpoint;
mod config;
pub mod open_clip;
mod vision;

use crate::batches::{in_batches, numbers};
use crate::pixels::Pixels;
use anyhow::{Result, ensure};
use opdflow_models::text::clip::ClipText;
use opdflow_models::text::in_vocabulary;
use opdflow_models::text::tokenizer::Tokenizer;
use opdflow_rewards::Image;
use std::path::Path;
use tch::{Device, Kind, Tensor};

pub use checkpoint::Checkpoint;
pub use config::Config;
pub use vision::{Vision, VisionConfig};

/// The half that sees.
pub struct Images {
    network: Vision,
    pixels: Pixels,
    device: Device,
}

impl Images {
    /// The vision tower of a checkpoint behind its way to make pixels.
    ///
    /// # Errors
    /// The tower does not load, or takes images of another size.
    pub fn new(checkpoint: &Checkpoint, pixels: Pixels, device: Device) -> Result<Images> {
        let network = checkpoint.vision()?;
        let (takes, side) = (network.config().image_size, pixels.side);
        ensure!(
            takes == side as i64,
            "the vision tower takes images of {takes}x{takes}, the preprocessing makes {side}x{side}"
        );
        Ok(Images { network, pixels, device })
    }

    /// `[B, P]` (f32, on the device), rows of length 1, one for each image of any size. A row does not depend on the
    /// others.
    ///
    /// # Errors
    /// An image is malformed.
    pub fn encode(&self, images: &[Image]) -> Result<Tensor> {
        let width = self.network.config().projection_dim;
        in_batches(images, width, self.device, |some| {
            Ok(unit(&self.network.forward(&self.pixels.batch(some)?.to_device(self.device))))
        })
    }

    /// The width P of an embedding.
    #[must_use]
    pub fn width(&self) -> i64 {
        self.network.config().projection_dim
    }
}

/// The half that reads.
pub struct Texts {
    network: ClipText,
    tokenizer: Tokenizer,
    device: Device,
}

impl Texts {
    /// The text tower of a checkpoint behind the tokenizer of a folder.
    ///
    /// # Errors
    /// One of them does not load.
    pub fn new(checkpoint: &Checkpoint, tokenizer: &Path, device: Device) -> Result<Texts> {
        Ok(Texts { network: checkpoint.text()?, tokenizer: Tokenizer::clip(tokenizer)?, device })
    }

    /// `[B, P]` (f32, on the device), rows of length 1, one for each text; what is longer than the tower takes (77
    /// tokens) is cut. Padding changes nothing: no token sees those behind it.
    ///
    /// # Errors
    /// The tokenizer gives ids that the tower does not know.
    pub fn encode<S: AsRef<str>>(&self, texts: &[S]) -> Result<Tensor> {
        let config = self.network.config();
        let length = usize::try_from(config.max_position_embeddings)?;
        in_batches(texts, config.projection_dim, self.device, |some| {
            let ids = self.tokenizer.ids(some, length)?;
            in_vocabulary(&ids, config.vocab_size, "CLIP")?;
            Ok(unit(&self.network.forward(&ids)?.pooled))
        })
    }
}

/// Both halves.
pub struct Clip {
    images: Images,
    texts: Texts,
    scale: f64,
}

impl Clip {
    /// A folder as published: weights, `config.json` (or `open_clip_config.json`), the tokenizer's files and
    /// `preprocessor_config.json`.
    ///
    /// # Errors
    /// A file is missing, malformed or not supported; the message names it.
    pub fn open(folder: &Path, device: Device) -> Result<Clip> {
        Clip::new(Checkpoint::open(folder, None, device)?, folder, Pixels::from_folder(folder)?, device)
    }

    /// A checkpoint with the tokenizer of a folder and a way to make pixels.
    ///
    /// # Errors
    /// As for [`Clip::open`].
    pub fn new(checkpoint: Checkpoint, tokenizer: &Path, pixels: Pixels, device: Device) -> Result<Clip> {
        let images = Images::new(&checkpoint, pixels, device)?;
        let texts = Texts::new(&checkpoint, tokenizer, device)?;
        let scale = checkpoint.scale()?;
        checkpoint.finish()?;
        Ok(Clip { images, texts, scale })
    }

    /// Images to rows of length 1: see [`Images::encode`].
    ///
    /// # Errors
    /// An image is malformed.
    pub fn encode_image(&self, images: &[Image]) -> Result<Tensor> {
        self.images.encode(images)
    }

    /// Texts to rows of length 1: see [`Texts::encode`].
    ///
    /// # Errors
    /// The tokenizer and the network do not belong together.
    pub fn encode_text<S: AsRef<str>>(&self, texts: &[S]) -> Result<Tensor> {
        self.texts.encode(texts)
    }

    /// What a cosine is multiplied by to give a logit: 100 in most published models.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The cosine of each image with the text of the same place, -1 to 1.
    ///
    /// # Errors
    /// The lists differ in length; else as for the two halves.
    pub fn cosines<S: AsRef<str>>(&self, images: &[Image], texts: &[S]) -> Result<Vec<f64>> {
        ensure!(images.len() == texts.len(), "{} images but {} texts", images.len(), texts.len());
        let products = self.encode_image(images)? * self.encode_text(texts)?;
        numbers(&products.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float))
    }
}

/// Rows divided by their lengths.
fn unit(x: &Tensor) -> Tensor {
    x / x.square().sum_dim_intlist([-1i64].as_slice(), true, Kind::Float).sqrt()
}
