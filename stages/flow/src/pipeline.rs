//! A Stable Diffusion 3 folder in diffusers' layout (`StableDiffusion3Pipeline`).

use crate::config::{read_json, supported};
use crate::mmdit::{Mmdit, MmditConfig};
use crate::schedule::TRAIN_STEPS;
use crate::text::clip::ClipText;
use crate::text::embed::TextEncoders;
use crate::text::t5::T5Encoder;
use crate::text::tokenizer::Tokenizer;
use crate::vae::{Vae, VaeConfig};
use crate::weights::Weights;
use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

const TRANSFORMER: &str = "SD3Transformer2DModel";
const VAE: &str = "AutoencoderKL";

/// How to load a folder.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where everything goes.
    pub device: Device,
    /// The kind of the transformer and the text encoders. The VAE is always f32, as its config asks (`force_upcast`).
    pub kind: Kind,
    /// Leave the T5 encoder out; its tokens are zero then.
    pub drop_t5: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { device: Device::Cpu, kind: Kind::Float, drop_t5: false }
    }
}

/// `scheduler/scheduler_config.json` of diffusers' `FlowMatchEulerDiscreteScheduler`, with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulerConfig {
    /// What sigma is multiplied by to give the timestep.
    pub num_train_timesteps: i64,
    /// The static shift of the schedule.
    pub shift: f64,
    /// Shift by the number of tokens; not supported.
    pub use_dynamic_shifting: bool,
    /// Spacing; not supported.
    pub use_karras_sigmas: bool,
    /// Spacing; not supported.
    pub use_exponential_sigmas: bool,
    /// Spacing; not supported.
    pub use_beta_sigmas: bool,
    /// From clean to noisy; not supported.
    pub invert_sigmas: bool,
    /// Stretch to a last sigma; not supported.
    pub shift_terminal: Option<f64>,
    /// Noise in every step; not supported (the solvers here have their own).
    pub stochastic_sampling: bool,
}

impl Default for SchedulerConfig {
    fn default() -> SchedulerConfig {
        SchedulerConfig {
            num_train_timesteps: 1000,
            shift: 1.0,
            use_dynamic_shifting: false,
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            invert_sigmas: false,
            shift_terminal: None,
            stochastic_sampling: false,
        }
    }
}

impl SchedulerConfig {
    /// Refuses what is not implemented.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "scheduler config";
        for (key, on) in [
            ("use_dynamic_shifting", self.use_dynamic_shifting),
            ("use_karras_sigmas", self.use_karras_sigmas),
            ("use_exponential_sigmas", self.use_exponential_sigmas),
            ("use_beta_sigmas", self.use_beta_sigmas),
            ("invert_sigmas", self.invert_sigmas),
            ("stochastic_sampling", self.stochastic_sampling),
        ] {
            supported(WHAT, key, on, !on, "false")?;
        }
        supported(WHAT, "shift_terminal", "set", self.shift_terminal.is_none(), "null")?;
        supported(WHAT, "shift", self.shift, self.shift > 0.0 && self.shift.is_finite(), "above 0")?;
        let steps = self.num_train_timesteps;
        supported(WHAT, "num_train_timesteps", steps, steps as f64 == TRAIN_STEPS, "1000")
    }
}

/// A loaded folder. The parts are separate fields, so that a caller may take out or drop what it does not need.
pub struct Pipeline {
    /// `transformer/`.
    pub transformer: Mmdit,
    /// `vae/`.
    pub vae: Vae,
    /// `text_encoder*/` and `tokenizer*/`.
    pub text: Option<TextEncoders>,
    /// `scheduler/`.
    pub scheduler: SchedulerConfig,
    /// The transformer's tensors by name: to train or to save them.
    pub weights: Weights,
}

impl Pipeline {
    /// Loads all parts and checks that they fit each other.
    pub fn load(folder: impl AsRef<Path>, options: Options) -> Result<Pipeline> {
        let text = Some(Folder::open(&folder)?.text(options)?);
        Ok(Pipeline { text, ..Pipeline::without_text(folder, options)? })
    }

    /// The same without text encoders and tokenizers, which need not be in the folder either.
    pub fn without_text(folder: impl AsRef<Path>, options: Options) -> Result<Pipeline> {
        let folder = Folder::open(folder)?;
        folder.configs()?;
        let (transformer, weights) = folder.transformer(options.device, options.kind)?;
        let vae = folder.vae(options.device)?;
        let scheduler = folder.scheduler()?;
        Ok(Pipeline { transformer, vae, text: None, scheduler, weights })
    }
}

/// A folder whose `model_index.json` was read; its parts can be loaded one by one.
pub struct Folder {
    path: PathBuf,
    index: Value,
    variant: Option<String>,
}

impl Folder {
    /// Reads `model_index.json`.
    pub fn open(path: impl AsRef<Path>) -> Result<Folder> {
        let path = path.as_ref().to_path_buf();
        let file = path.join("model_index.json");
        ensure!(file.exists(), "{}: no model_index.json here; expected a folder in diffusers' layout", path.display());
        let index: Value = read_json(&file)?;
        let class = index.get("_class_name").and_then(Value::as_str).unwrap_or("absent");
        let wanted = "StableDiffusion3Pipeline";
        supported(&file.display().to_string(), "_class_name", class, class == wanted, wanted)?;
        Ok(Folder { path, index, variant: None })
    }

    /// Reads the weights of this variant (`fp16` for `model.fp16.safetensors`) wherever a part has them.
    #[must_use]
    pub fn with_variant(self, variant: Option<String>) -> Folder {
        Folder { variant, ..self }
    }

    /// The configurations of transformer and VAE, checked against each other, without any weights.
    pub fn configs(&self) -> Result<(MmditConfig, VaeConfig)> {
        let read = |name, class| -> Result<PathBuf> { Ok(self.part(name, &[class])?.join("config.json")) };
        let transformer: MmditConfig = read_json(&read("transformer", TRANSFORMER)?)?;
        let vae: VaeConfig = read_json(&read("vae", VAE)?)?;
        transformer.check().and_then(|()| vae.check()).with_context(|| self.path.display().to_string())?;
        let (c, out, z) = (transformer.in_channels, transformer.channels_out(), vae.latent_channels);
        ensure!(c == z, "{}: the VAE's latents have {z} channels, the transformer takes {c}", self.path.display());
        ensure!(c == out, "{}: the transformer takes {c} channels and gives {out}", self.path.display());
        Ok((transformer, vae))
    }

    /// The folder of a part that must be there as one of these classes.
    fn part(&self, name: &str, classes: &[&str]) -> Result<PathBuf> {
        let class = self.index.get(name).and_then(|v| v.get(1)).and_then(Value::as_str);
        let at = self.path.join(name);
        let Some(class) = class else {
            anyhow::bail!("{}: model_index.json names no `{name}`", self.path.display());
        };
        let what = format!("{}/model_index.json", self.path.display());
        supported(&what, name, class, classes.contains(&class), &classes.join(", "))?;
        ensure!(at.is_dir(), "{}: the part `{name}` ({class}) is absent", at.display());
        Ok(at)
    }

    fn has(&self, name: &str) -> bool {
        self.index.get(name).and_then(|v| v.get(1)).is_some_and(|c| !c.is_null()) && self.path.join(name).is_dir()
    }

    /// `transformer/` and its tensors by name, which take no gradients until told to.
    pub fn transformer(&self, device: Device, kind: Kind) -> Result<(Mmdit, Weights)> {
        let at = self.part("transformer", &[TRANSFORMER])?;
        self.build(&at, device, kind, |w, c| Mmdit::new(&w.root(), &c))
    }

    /// `vae/`, always f32.
    pub fn vae(&self, device: Device) -> Result<Vae> {
        let at = self.part("vae", &[VAE])?;
        Ok(self.build(&at, device, Kind::Float, |w, c| Vae::new(&w.root(), &c))?.0)
    }

    /// `scheduler/`.
    pub fn scheduler(&self) -> Result<SchedulerConfig> {
        let at = self.part("scheduler", &["FlowMatchEulerDiscreteScheduler"])?;
        let config: SchedulerConfig = read_json(&at.join("scheduler_config.json"))?;
        config.check().with_context(|| at.display().to_string())?;
        Ok(config)
    }

    /// `text_encoder*/` and `tokenizer*/`. A folder without `text_encoder_3` is one whose T5 was dropped.
    pub fn text(&self, options: Options) -> Result<TextEncoders> {
        let Options { device, kind, drop_t5 } = options;
        let config: MmditConfig = read_json(&self.part("transformer", &[TRANSFORMER])?.join("config.json"))?;
        let clip = |suffix: &str| -> Result<(Tokenizer, ClipText)> {
            let tokenizer = self.part(&format!("tokenizer{suffix}"), &["CLIPTokenizer", "CLIPTokenizerFast"])?;
            let encoder = self.part(&format!("text_encoder{suffix}"), &["CLIPTextModelWithProjection"])?;
            let clip = self.build(&encoder, device, kind, |w, c| ClipText::new(&w.root(), &c))?.0;
            Ok((Tokenizer::clip(tokenizer)?, clip))
        };
        let t5_classes = ["T5TokenizerFast", "T5Tokenizer"];
        let t5_tokenizer = match self.has("tokenizer_3") {
            true => Some(Tokenizer::t5(self.part("tokenizer_3", &t5_classes)?)?),
            false => None,
        };
        let t5 = match self.has("text_encoder_3") && !drop_t5 {
            true => {
                let at = self.part("text_encoder_3", &["T5EncoderModel"])?;
                Some(self.build(&at, device, kind, |w, c| T5Encoder::new(&w.root(), &c))?.0)
            }
            false => None,
        };
        let text = TextEncoders { clip: [clip("")?, clip("_2")?], t5, t5_tokenizer, width: config.joint_attention_dim };
        text.check(config.pooled_projection_dim).with_context(|| self.path.display().to_string())?;
        Ok(text)
    }

    /// One part: `config.json` and weights to a model.
    fn build<C: DeserializeOwned, M>(
        &self,
        at: &Path,
        device: Device,
        kind: Kind,
        make: impl FnOnce(&Weights, C) -> Result<M>,
    ) -> Result<(M, Weights)> {
        let config: C = read_json(&at.join("config.json"))?;
        let weights = Weights::load_variant(at, self.variant.as_deref(), device, kind)?;
        let model = make(&weights, config).with_context(|| format!("cannot load {}", at.display()))?;
        // Buffers that older versions wrote beside the parameters.
        weights.expect_all_used(|n| n.ends_with("position_ids") || n == "encoder.embed_tokens.weight")?;
        Ok((model, weights))
    }
}
