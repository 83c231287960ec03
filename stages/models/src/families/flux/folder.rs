//! A FLUX.1 folder in diffusers' layout (`FluxPipeline`).

use super::{Flux, FluxConfig, FluxModel, FluxNetwork, FluxText, PIPELINE};
use crate::base_files::BaseFiles;
use crate::config::{read_json, supported};
use crate::families::parts::Parts;
use crate::family::Architecture;
use crate::network::{Autoencoder, Folder, Network, Options, Text};
use crate::schedule::SchedulerConfig;
use crate::text::clip::{ClipConfig, ClipText};
use crate::text::t5::{T5Config, T5Encoder};
use crate::text::tokenizer::Tokenizer;
use crate::vae::Vae;
use crate::weights::Weights;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use tch::{Device, Kind};

const TRANSFORMER: &str = "FluxTransformer2DModel";
const VAE: &str = "AutoencoderKL";
const CLIP: &str = "CLIPTextModel";
const T5: &str = "T5EncoderModel";
const EXPECTED: &str = "FLUX.1 is read from a folder in diffusers' layout, with model_index.json";

/// A base that was found; its parts can be loaded one by one.
pub struct FluxFolder {
    parts: Parts,
}

impl FluxFolder {
    /// Finds the base at `path`: a folder in diffusers' layout, or the root of a download cache.
    ///
    /// # Errors
    /// Nothing there that is one; a base of another kind.
    pub fn open(path: impl AsRef<Path>) -> Result<FluxFolder> {
        let path = path.as_ref();
        if path.is_file() {
            bail!("{} is a file: {EXPECTED}", path.display());
        }
        FluxFolder::of(BaseFiles::of(path)?, None)
    }

    /// The base of these files; it has to be a folder.
    ///
    /// # Errors
    /// A base of another kind.
    pub fn of(files: BaseFiles, variant: Option<String>) -> Result<FluxFolder> {
        let BaseFiles { folder, index, single, .. } = files;
        if let Some(single) = single {
            bail!("{} is a single file: {EXPECTED}", single.path().display());
        }
        let class = index.get("_class_name").and_then(Value::as_str).unwrap_or("absent");
        let at = folder.join("model_index.json").display().to_string();
        supported(&at, "_class_name", class, class == PIPELINE, PIPELINE)?;
        Ok(FluxFolder { parts: Parts::new(folder, index, variant) })
    }

    /// The configurations of all parts that sampling needs, checked against each other, without any weights.
    ///
    /// # Errors
    /// As for [`FluxModel::new`]; a part that is absent or of another class.
    pub fn model(&self) -> Result<FluxModel> {
        let (transformer, vae) = (self.parts.config("transformer", TRANSFORMER)?, self.parts.config("vae", VAE)?);
        FluxModel::new(transformer, vae, self.scheduler()?).with_context(|| self.parts.at().to_string())
    }

    /// `transformer/` and its tensors by name, which take no gradients until told to.
    ///
    /// # Errors
    /// A part that is absent, broken, not supported or not whole.
    pub fn transformer(&self, device: Device, kind: Kind) -> Result<(Flux, Weights)> {
        self.parts.build("transformer", TRANSFORMER, device, kind, |w, c| Flux::new(&w.root(), &c))
    }

    /// `vae/`, always f32.
    ///
    /// # Errors
    /// As for [`FluxFolder::transformer`].
    pub fn vae(&self, device: Device) -> Result<Vae> {
        Ok(self.parts.build("vae", VAE, device, Kind::Float, |w, c| Vae::new(&w.root(), &c))?.0)
    }

    /// `scheduler/`.
    ///
    /// # Errors
    /// As for [`FluxFolder::transformer`].
    pub fn scheduler(&self) -> Result<SchedulerConfig> {
        let at = self.parts.part("scheduler", &["FlowMatchEulerDiscreteScheduler"])?;
        let config: SchedulerConfig = read_json(&at.join("scheduler_config.json"))?;
        config.check().with_context(|| at.display().to_string())?;
        Ok(config)
    }

    /// `text_encoder/`, `text_encoder_2/` and their tokenizers.
    ///
    /// # Errors
    /// As for [`FluxFolder::transformer`]; encoders that do not fit the transformer.
    pub fn encoders(&self, device: Device, kind: Kind) -> Result<FluxText> {
        let config: FluxConfig = self.parts.config("transformer", TRANSFORMER)?;
        let [clip, t5] = self.tokenizers()?;
        let text = FluxText {
            clip: (clip, self.clip(device, kind)?),
            t5: (t5, self.t5(device, kind)?),
            length: config.max_sequence_length(),
        };
        text.check(&config).with_context(|| self.parts.at().to_string())?;
        Ok(text)
    }

    fn tokenizers(&self) -> Result<[Tokenizer; 2]> {
        let clip = self.parts.part("tokenizer", &["CLIPTokenizer", "CLIPTokenizerFast"])?;
        let t5 = self.parts.part("tokenizer_2", &["T5TokenizerFast", "T5Tokenizer"])?;
        Ok([Tokenizer::clip(clip)?, Tokenizer::t5(t5)?])
    }

    fn clip(&self, device: Device, kind: Kind) -> Result<ClipText> {
        let make = |w: &Weights, c| ClipText::unprojected(&w.root(), &c);
        Ok(self.parts.build("text_encoder", CLIP, device, kind, make)?.0)
    }

    fn t5(&self, device: Device, kind: Kind) -> Result<T5Encoder> {
        let make = |w: &Weights, c| T5Encoder::new(&w.root(), &c);
        Ok(self.parts.build("text_encoder_2", T5, device, kind, make)?.0)
    }
}

impl Folder for FluxFolder {
    fn architecture(&self) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(self.model()?))
    }

    fn network(&self, device: Device, kind: Kind) -> Result<(Box<dyn Network>, Weights)> {
        let model = self.model()?;
        let (transformer, weights) = self.transformer(device, kind)?;
        Ok((Box::new(FluxNetwork { model, transformer }), weights))
    }

    /// Nothing is left out: T5's tokens are all that the network sees of the text.
    fn text(&self, options: Options) -> Result<Box<dyn Text>> {
        Ok(Box::new(self.encoders(options.device, options.kind)?))
    }

    fn autoencoder(&self, device: Device) -> Result<Box<dyn Autoencoder>> {
        Ok(Box::new(self.vae(device)?))
    }

    fn fresh<'a>(&self, weights: &dyn Fn(&str) -> Option<&'a Weights>) -> Result<(Box<dyn Network>, Box<dyn Text>)> {
        let own = |part: &str| weights(part).with_context(|| format!("no weights for `{part}`"));
        let model = self.model()?;
        let transformer = Flux::new(&own("transformer")?.root(), &model.transformer)?;
        let clip: ClipConfig = self.parts.config("text_encoder", CLIP)?;
        let t5: T5Config = self.parts.config("text_encoder_2", T5)?;
        let [clip_words, t5_words] = self.tokenizers()?;
        let text = FluxText {
            clip: (clip_words, ClipText::unprojected(&own("text_encoder")?.root(), &clip)?),
            t5: (t5_words, T5Encoder::new(&own("text_encoder_2")?.root(), &t5)?),
            length: model.transformer.max_sequence_length(),
        };
        text.check(&model.transformer).with_context(|| self.parts.at().to_string())?;
        Ok((Box::new(FluxNetwork { model, transformer }), Box::new(text)))
    }
}
