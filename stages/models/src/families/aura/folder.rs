//! An AuraFlow folder in diffusers' layout (`AuraFlowPipeline`).

use super::{Aura, AuraConfig, AuraModel, AuraNetwork, AuraText, PIPELINE, Umt5Config, Umt5Encoder};
use crate::base_files::BaseFiles;
use crate::config::{read_json, supported};
use crate::families::parts::Parts;
use crate::family::Architecture;
use crate::network::{Autoencoder, Folder, Network, Options, Text};
use crate::schedule::SchedulerConfig;
use crate::text::tokenizer::Tokenizer;
use crate::vae::Vae;
use crate::weights::Weights;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use tch::{Device, Kind};

const TRANSFORMER: &str = "AuraFlowTransformer2DModel";
const VAE: &str = "AutoencoderKL";
const ENCODER: &str = "UMT5EncoderModel";
/// The pipeline says T5's, the published folders Llama's. Either is read from its tokenizer.json.
const TOKENIZERS: [&str; 4] = ["LlamaTokenizerFast", "LlamaTokenizer", "T5TokenizerFast", "T5Tokenizer"];

/// A base that was found; its parts can be loaded one by one.
pub struct AuraFolder {
    parts: Parts,
}

impl AuraFolder {
    /// The base of these files; it has to be a folder.
    ///
    /// # Errors
    /// A base of another kind.
    pub fn of(files: BaseFiles, variant: Option<String>) -> Result<AuraFolder> {
        let BaseFiles { folder, index, single, .. } = files;
        if let Some(single) = single {
            bail!(
                "{} is a single file: AuraFlow is read from a folder in diffusers' layout, with model_index.json",
                single.path().display()
            );
        }
        let class = index.get("_class_name").and_then(Value::as_str).unwrap_or("absent");
        let at = folder.join("model_index.json").display().to_string();
        supported(&at, "_class_name", class, class == PIPELINE, PIPELINE)?;
        Ok(AuraFolder { parts: Parts::new(folder, index, variant) })
    }

    /// The configurations of all parts that sampling needs, checked against each other, without any weights.
    ///
    /// # Errors
    /// As for [`AuraModel::new`]; a part that is absent or of another class.
    pub fn model(&self) -> Result<AuraModel> {
        let (transformer, vae) = (self.parts.config("transformer", TRANSFORMER)?, self.parts.config("vae", VAE)?);
        AuraModel::new(transformer, vae, self.scheduler()?).with_context(|| self.parts.at().to_string())
    }

    /// `transformer/` and its tensors by name, which take no gradients until told to.
    ///
    /// # Errors
    /// A part that is absent, broken, not supported or not whole.
    pub fn transformer(&self, device: Device, kind: Kind) -> Result<(Aura, Weights)> {
        self.parts.build("transformer", TRANSFORMER, device, kind, |w, c| Aura::new(&w.root(), &c))
    }

    /// `vae/`, always f32.
    ///
    /// # Errors
    /// As for [`AuraFolder::transformer`].
    pub fn vae(&self, device: Device) -> Result<Vae> {
        Ok(self.parts.build("vae", VAE, device, Kind::Float, |w, c| Vae::new(&w.root(), &c))?.0)
    }

    /// `scheduler/`.
    ///
    /// # Errors
    /// As for [`AuraFolder::transformer`].
    pub fn scheduler(&self) -> Result<SchedulerConfig> {
        let at = self.parts.part("scheduler", &["FlowMatchEulerDiscreteScheduler"])?;
        let config: SchedulerConfig = read_json(&at.join("scheduler_config.json"))?;
        config.check_static().with_context(|| at.display().to_string())?;
        Ok(config)
    }

    /// `text_encoder/` and its tokenizer.
    ///
    /// # Errors
    /// As for [`AuraFolder::transformer`]; an encoder that does not fit the transformer.
    pub fn encoder(&self, device: Device, kind: Kind) -> Result<AuraText> {
        let make = |w: &Weights, c| Umt5Encoder::new(&w.root(), &c);
        let encoder = self.parts.build("text_encoder", ENCODER, device, kind, make)?.0;
        self.text_of(encoder, &self.parts.config("transformer", TRANSFORMER)?)
    }

    fn text_of(&self, encoder: Umt5Encoder, config: &AuraConfig) -> Result<AuraText> {
        let text = AuraText { tokenizer: Tokenizer::t5(self.parts.part("tokenizer", &TOKENIZERS)?)?, encoder };
        text.check(config).with_context(|| self.parts.at().to_string())?;
        Ok(text)
    }
}

impl Folder for AuraFolder {
    fn architecture(&self) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(self.model()?))
    }

    fn network(&self, device: Device, kind: Kind) -> Result<(Box<dyn Network>, Weights)> {
        let model = self.model()?;
        let (transformer, weights) = self.transformer(device, kind)?;
        Ok((Box::new(AuraNetwork { model, transformer }), weights))
    }

    /// Nothing is left out: the one encoder's tokens are all that the network sees of the text.
    fn text(&self, options: Options) -> Result<Box<dyn Text>> {
        Ok(Box::new(self.encoder(options.device, options.kind)?))
    }

    fn autoencoder(&self, device: Device) -> Result<Box<dyn Autoencoder>> {
        Ok(Box::new(self.vae(device)?))
    }

    fn fresh<'a>(&self, weights: &dyn Fn(&str) -> Option<&'a Weights>) -> Result<(Box<dyn Network>, Box<dyn Text>)> {
        let own = |part: &str| weights(part).with_context(|| format!("no weights for `{part}`"));
        let model = self.model()?;
        let transformer = Aura::new(&own("transformer")?.root(), &model.transformer)?;
        let config: Umt5Config = self.parts.config("text_encoder", ENCODER)?;
        let encoder = Umt5Encoder::new(&own("text_encoder")?.root(), &config)?;
        let text = self.text_of(encoder, &model.transformer)?;
        Ok((Box::new(AuraNetwork { model, transformer }), Box::new(text)))
    }
}
