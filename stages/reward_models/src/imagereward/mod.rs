//! ImageReward: what people prefer for a prompt, by a BLIP that reads the prompt while it looks (Xu et al. 2023).

mod bert;
mod vit;

use crate::batches::{in_batches, numbers};
use crate::head::Head;
use crate::judge::{Judge, Locked};
use crate::parts;
use crate::pixels::{Fit, Pixels};
use anyhow::{Context, Result, ensure};
use bert::Bert;
pub use bert::BertConfig;
use opdflow_models::config::read_json;
use opdflow_models::text::in_vocabulary;
use opdflow_models::text::tokenizer::Tokenizer;
use opdflow_models::weights::Scope;
use opdflow_rewards::{Image, Reward, Score};
use opdflow_spec::reward_models::imagereward::{MODEL, REWARD_MODEL, TOKENIZER};
use serde::de::DeserializeOwned;
use std::path::Path;
use tch::{Device, Tensor};
use vit::Vit;
pub use vit::VitConfig;

/// A prompt is cut to this many tokens, its two special ones among them.
pub const LENGTH: usize = 35;
/// Mean of the raw scores on ImageReward's own data, which is taken off.
const MEAN: f64 = 0.167_173_628_300_524_26;
/// Their standard deviation, by which is divided then.
const STD: f64 = 1.033_339_496_605_407_2;

/// The published score as it is: of mean 0 and deviation 1 over the images that it was made with.
///
/// Source: `ImageReward.py` of the package image-reward 1.5.
pub struct ImageReward {
    network: Blip,
    vocabulary: i64,
    tokenizer: Tokenizer,
    pixels: Pixels,
    device: Device,
}

/// The network: a BLIP, and the head on the state of its first token.
pub struct Blip {
    vision: Vit,
    text: Bert,
    head: Head,
}

impl Blip {
    /// Takes its tensors from `scope`: `blip.visual_encoder`, `blip.text_encoder` and `mlp`.
    ///
    /// # Errors
    /// A tensor is missing or of another shape; a size that cannot be.
    pub fn new(scope: &Scope, sizes: &VitConfig, config: &BertConfig) -> Result<Blip> {
        sizes.check()?;
        Ok(Blip {
            vision: Vit::new(&scope.sub("blip.visual_encoder"), sizes)?,
            text: Bert::new(&scope.sub("blip.text_encoder"), config, sizes.width)?,
            head: Head::new(&scope.sub("mlp"), config.hidden_size)?,
        })
    }

    /// `[B, 3, S, S]` (f32, normalised), ids `[B, L]` (Int64) and which of them are words `[B, L]` (Bool) to raw scores
    /// `[B, 1]`.
    pub fn forward(&self, pixels: &Tensor, ids: &Tensor, words: &Tensor) -> Tensor {
        self.head.forward(&self.text.forward(ids, words, &self.vision.forward(pixels)))
    }
}

/// Opens it from the folder of its parts.
///
/// # Errors
/// A file is missing, malformed or not supported; the message names it.
pub fn open(folder: &Path, device: Device) -> Result<Box<dyn Reward>> {
    Ok(Box::new(Locked::new(ImageReward::open(folder, device)?)))
}

impl ImageReward {
    fn open(folder: &Path, device: Device) -> Result<ImageReward> {
        let (model, tokenizer) = (parts::folder(folder, &MODEL)?, parts::folder(folder, &TOKENIZER)?);
        let sizes: VitConfig = maybe(&model.join("vit_config.json"))?;
        sizes.check()?;
        let file = model.join("med_config.json");
        let config: BertConfig = maybe(&file)?;
        let places = config.max_position_embeddings;
        ensure!(
            places >= LENGTH as i64,
            "{}: `max_position_embeddings` is {places}, {LENGTH} are needed",
            file.display()
        );
        let weights = parts::weights(&model, device)?;
        let network = Blip::new(&weights.root(), &sizes, &config);
        // Other tensors may lie there, as upstream: BLIP's own projections are not used.
        Ok(ImageReward {
            network: network.with_context(|| format!("cannot load {}", model.display()))?,
            vocabulary: config.vocab_size,
            tokenizer: Tokenizer::bert(tokenizer)?,
            pixels: Pixels::clip(Fit::Pillow, usize::try_from(sizes.image_size)?),
            device,
        })
    }

    /// Ids `[B, 35]` (Int64) and which of them are words `[B, 35]` (Bool).
    fn read(&self, texts: &[&str]) -> Result<(Tensor, Tensor)> {
        let ids = self.tokenizer.ids(texts, LENGTH)?;
        in_vocabulary(&ids, self.vocabulary, "BERT")?;
        let words = ids.ne(i64::from(self.tokenizer.pad()));
        Ok((ids.to_device(self.device), words.to_device(self.device)))
    }
}

/// A configuration, or the published one where there is no file.
fn maybe<T: DeserializeOwned + Default>(file: &Path) -> Result<T> {
    if opdflow_io::file::is_named(file) { read_json(file) } else { Ok(T::default()) }
}

impl Judge for ImageReward {
    const NAME: &'static str = REWARD_MODEL.name;

    fn judge(&self, images: &[Image], texts: &[&str]) -> Result<Vec<Score>> {
        let pairs: Vec<(&Image, &str)> = images.iter().zip(texts.iter().copied()).collect();
        let raw = in_batches(&pairs, 1, self.device, |some| {
            let (images, texts): (Vec<&Image>, Vec<&str>) = some.iter().copied().unzip();
            let (ids, words) = self.read(&texts)?;
            Ok(self.network.forward(&self.pixels.batch(&images)?.to_device(self.device), &ids, &words))
        })?;
        Ok(numbers(&raw)?.into_iter().map(|r| Score::new((r - MEAN) / STD, [])).collect())
    }
}
