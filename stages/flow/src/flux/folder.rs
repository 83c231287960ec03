//! A FLUX.1 folder in diffusers' layout (`FluxPipeline`).

use super::{Flux, FluxConfig, FluxSchedulerConfig, FluxText};
use crate::base_files::BaseFiles;
use crate::config::{read_json, supported};
use crate::parts::Parts;
use crate::text::clip::ClipText;
use crate::text::t5::T5Encoder;
use crate::text::tokenizer::Tokenizer;
use crate::vae::{Vae, VaeConfig};
use crate::weights::Weights;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::Path;
use tch::{Device, Kind};

/// What `model_index.json` says under `_class_name`.
pub const PIPELINE: &str = "FluxPipeline";
const TRANSFORMER: &str = "FluxTransformer2DModel";
const VAE: &str = "AutoencoderKL";

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
        let expected = "FLUX.1 is read from a folder in diffusers' layout, with model_index.json";
        if path.is_file() {
            bail!("{} is a file: {expected}", path.display());
        }
        let BaseFiles { folder, index, single, .. } = BaseFiles::of(path)?;
        if let Some(single) = single {
            bail!("{} is a single file: {expected}", single.path().display());
        }
        let class = index.get("_class_name").and_then(Value::as_str).unwrap_or("absent");
        let at = folder.join("model_index.json").display().to_string();
        supported(&at, "_class_name", class, class == PIPELINE, PIPELINE)?;
        Ok(FluxFolder { parts: Parts::new(folder, index) })
    }

    /// Reads the weights of this variant (`fp16` for `model.fp16.safetensors`) wherever a part has them.
    #[must_use]
    pub fn with_variant(self, variant: Option<String>) -> FluxFolder {
        FluxFolder { parts: self.parts.with_variant(variant) }
    }

    /// The configurations of transformer and VAE, checked against each other, without any weights.
    ///
    /// # Errors
    /// One that is absent or not supported; latents of different widths.
    pub fn configs(&self) -> Result<(FluxConfig, VaeConfig)> {
        let transformer: FluxConfig = self.parts.config("transformer", TRANSFORMER)?;
        let vae: VaeConfig = self.parts.config("vae", VAE)?;
        transformer.check().and_then(|()| vae.check()).with_context(|| self.parts.at().to_string())?;
        let (c, z) = (transformer.latent_channels(), vae.latent_channels);
        ensure!(c == z, "{}: the VAE's latents have {z} channels, the transformer takes {c}", self.parts.at());
        Ok((transformer, vae))
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
    pub fn scheduler(&self) -> Result<FluxSchedulerConfig> {
        let at = self.parts.part("scheduler", &["FlowMatchEulerDiscreteScheduler"])?;
        let config: FluxSchedulerConfig = read_json(&at.join("scheduler_config.json"))?;
        config.check().with_context(|| at.display().to_string())?;
        Ok(config)
    }

    /// `text_encoder/`, `text_encoder_2/` and their tokenizers.
    ///
    /// # Errors
    /// As for [`FluxFolder::transformer`]; encoders that do not fit the transformer.
    pub fn text(&self, device: Device, kind: Kind) -> Result<FluxText> {
        let config: FluxConfig = self.parts.config("transformer", TRANSFORMER)?;
        let clip = self.parts.part("tokenizer", &["CLIPTokenizer", "CLIPTokenizerFast"])?;
        let t5 = self.parts.part("tokenizer_2", &["T5TokenizerFast", "T5Tokenizer"])?;
        let text = FluxText {
            clip: (Tokenizer::clip(clip)?, self.clip(device, kind)?),
            t5: (Tokenizer::t5(t5)?, self.t5(device, kind)?),
        };
        text.check(&config).with_context(|| self.parts.at().to_string())?;
        Ok(text)
    }

    fn clip(&self, device: Device, kind: Kind) -> Result<ClipText> {
        let make = |w: &Weights, c| ClipText::unprojected(&w.root(), &c);
        Ok(self.parts.build("text_encoder", "CLIPTextModel", device, kind, make)?.0)
    }

    fn t5(&self, device: Device, kind: Kind) -> Result<T5Encoder> {
        let make = |w: &Weights, c| T5Encoder::new(&w.root(), &c);
        Ok(self.parts.build("text_encoder_2", "T5EncoderModel", device, kind, make)?.0)
    }
}

/// A loaded folder. The parts are separate fields, so that a caller may take out or drop what it does not need.
pub struct FluxPipeline {
    /// `transformer/`.
    pub transformer: Flux,
    /// `vae/`.
    pub vae: Vae,
    /// `text_encoder*/` and `tokenizer*/`.
    pub text: Option<FluxText>,
    /// `scheduler/`.
    pub scheduler: FluxSchedulerConfig,
    /// The transformer's tensors by name: to train or to save them.
    pub weights: Weights,
}

impl FluxPipeline {
    /// Loads all parts and checks that they fit each other; transformer and text encoders as `kind`.
    ///
    /// # Errors
    /// As for the parts of [`FluxFolder`].
    pub fn load(folder: impl AsRef<Path>, device: Device, kind: Kind) -> Result<FluxPipeline> {
        let text = Some(FluxFolder::open(&folder)?.text(device, kind)?);
        Ok(FluxPipeline { text, ..FluxPipeline::without_text(folder, device, kind)? })
    }

    /// The same without text encoders and tokenizers, which need not be in the folder either.
    ///
    /// # Errors
    /// As for the parts of [`FluxFolder`].
    pub fn without_text(folder: impl AsRef<Path>, device: Device, kind: Kind) -> Result<FluxPipeline> {
        let folder = FluxFolder::open(folder)?;
        folder.configs()?;
        let (transformer, weights) = folder.transformer(device, kind)?;
        let (vae, scheduler) = (folder.vae(device)?, folder.scheduler()?);
        Ok(FluxPipeline { transformer, vae, text: None, scheduler, weights })
    }

    /// Whether pictures of this size can be made: sides in multiples of the VAE's factor times two.
    ///
    /// # Errors
    /// They cannot.
    pub fn check_picture(&self, h: i64, w: i64) -> Result<()> {
        let (vae, f) = (self.vae.config(), self.vae.config().factor());
        ensure!(
            h > 0 && w > 0 && h % (2 * f) == 0 && w % (2 * f) == 0,
            "the picture is {h}x{w}, both sides must be multiples of {}",
            2 * f
        );
        self.transformer.config().check_latent(vae.latent_channels, h / f, w / f)
    }
}
