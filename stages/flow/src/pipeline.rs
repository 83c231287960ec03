//! A Stable Diffusion 3 folder in diffusers' layout (`StableDiffusion3Pipeline`).

use crate::base_files::BaseFiles;
use crate::config::{read_json, supported};
use crate::mmdit::{Mmdit, MmditConfig};
use crate::original::{Part, SingleFile};
use crate::schedule::TRAIN_STEPS;
use crate::text::clip::ClipText;
use crate::text::embed::TextEncoders;
use crate::text::t5::T5Encoder;
use crate::text::tokenizer::Tokenizer;
use crate::vae::{Vae, VaeConfig};
use crate::weights::{self, Weights, shard_paths};
use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

const TRANSFORMER: &str = "SD3Transformer2DModel";
const VAE: &str = "AutoencoderKL";
/// The parts with weights that every picture needs.
const PARTS: [&str; 4] = ["transformer", "vae", "text_encoder", "text_encoder_2"];

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

/// A base that was found; its parts can be loaded one by one.
pub struct Folder {
    files: BaseFiles,
    variant: Option<String>,
}

/// Where a part lies.
enum Home {
    /// In its folder.
    Own,
    /// In the single file.
    Single(Part),
}

impl Folder {
    /// Finds the base at `path`: a folder in diffusers' layout, a single file, or a download cache.
    pub fn open(path: impl AsRef<Path>) -> Result<Folder> {
        let mut files = BaseFiles::of(path.as_ref())?;
        let class = files.index.get("_class_name").and_then(Value::as_str).unwrap_or("absent");
        let wanted = "StableDiffusion3Pipeline";
        let at = files.folder.join("model_index.json").display().to_string();
        supported(&at, "_class_name", class, class == wanted, wanted)?;
        // Weights beside the parts are looked at only where a part has none. T5 may be left out, so that it alone forces none.
        let folder = files.folder.clone();
        let lacks = |p: &str| names(&files.index, p) && shard_paths(&folder.join(p), None).is_err();
        let (needed, t5) = (PARTS.iter().any(|p| lacks(p)), lacks("text_encoder_3"));
        if needed {
            files.look_for_single()?;
        } else if t5 {
            let _ = files.look_for_single();
        }
        Ok(Folder { files, variant: None })
    }

    /// Reads the weights of this variant (`fp16` for `model.fp16.safetensors`) wherever a part has them.
    #[must_use]
    pub fn with_variant(self, variant: Option<String>) -> Folder {
        Folder { variant, ..self }
    }

    fn at(&self) -> std::path::Display<'_> {
        self.files.folder.display()
    }

    /// The configurations of transformer and VAE, checked against each other, without any weights.
    pub fn configs(&self) -> Result<(MmditConfig, VaeConfig)> {
        let transformer: MmditConfig = self.config("transformer", TRANSFORMER)?;
        let vae: VaeConfig = self.config("vae", VAE)?;
        transformer.check().and_then(|()| vae.check()).with_context(|| self.at().to_string())?;
        let (c, out, z) = (transformer.in_channels, transformer.channels_out(), vae.latent_channels);
        ensure!(c == z, "{}: the VAE's latents have {z} channels, the transformer takes {c}", self.at());
        ensure!(c == out, "{}: the transformer takes {c} channels and gives {out}", self.at());
        Ok((transformer, vae))
    }

    /// Whether a part must be there, as one of these classes.
    fn named(&self, name: &str, classes: &[&str]) -> Result<()> {
        let class = self.files.index.get(name).and_then(|v| v.get(1)).and_then(Value::as_str);
        let Some(class) = class else {
            anyhow::bail!("{}: model_index.json names no `{name}`", self.at());
        };
        let what = format!("{}/model_index.json", self.at());
        supported(&what, name, class, classes.contains(&class), &classes.join(", "))
    }

    /// The folder of a part that must be there as one of these classes.
    fn part(&self, name: &str, classes: &[&str]) -> Result<PathBuf> {
        self.named(name, classes)?;
        let at = self.files.folder.join(name);
        let beside = match &self.files.single {
            Some(file) if name.starts_with("tokenizer") => format!(
                "; a single file holds no tokenizers: put this folder of the model beside {}",
                file.path().display()
            ),
            _ => String::new(),
        };
        ensure!(at.is_dir(), "{}: the part `{name}` ({}) is absent{beside}", at.display(), classes.join(", "));
        Ok(at)
    }

    /// Where the weights of a part are.
    fn home(&self, name: &str, class: &str) -> Result<Home> {
        self.named(name, &[class])?;
        let at = self.files.folder.join(name);
        let single = self.files.single.as_ref().zip(Part::of_folder(name)).filter(|(file, part)| file.has(*part));
        match single {
            Some((_, part)) if self.files.named || shard_paths(&at, self.variant.as_deref()).is_err() => {
                Ok(Home::Single(part))
            }
            _ => {
                let t5 = if name == "text_encoder_3" { "; `--no-t5` makes pictures without it" } else { "" };
                ensure!(at.is_dir(), "{}: the part `{name}` ({class}) is absent{t5}", at.display());
                Ok(Home::Own)
            }
        }
    }

    /// A part's configuration: its file, or what the shapes in the single file say.
    fn config<C: DeserializeOwned>(&self, name: &str, class: &str) -> Result<C> {
        let home = self.home(name, class)?;
        let file = self.files.folder.join(name).join("config.json");
        match (home, &self.files.single) {
            (Home::Single(part), Some(single)) if !opdflow_io::file::is_named(&file) => {
                serde_json::from_value(single.config(part)?).with_context(|| single.path().display().to_string())
            }
            _ => read_json(&file),
        }
    }

    /// `transformer/` and its tensors by name, which take no gradients until told to.
    pub fn transformer(&self, device: Device, kind: Kind) -> Result<(Mmdit, Weights)> {
        self.build("transformer", TRANSFORMER, device, kind, |w, c| Mmdit::new(&w.root(), &c))
    }

    /// `vae/`, always f32.
    pub fn vae(&self, device: Device) -> Result<Vae> {
        Ok(self.build("vae", VAE, device, Kind::Float, |w, c| Vae::new(&w.root(), &c))?.0)
    }

    /// `scheduler/`; beside a single file it may be absent, and is what all models of Stable Diffusion 3 have.
    pub fn scheduler(&self) -> Result<SchedulerConfig> {
        if self.files.single.is_some() && !self.files.folder.join("scheduler").is_dir() {
            return Ok(SchedulerConfig { shift: 3.0, ..SchedulerConfig::default() });
        }
        let at = self.part("scheduler", &["FlowMatchEulerDiscreteScheduler"])?;
        let config: SchedulerConfig = read_json(&at.join("scheduler_config.json"))?;
        config.check().with_context(|| at.display().to_string())?;
        Ok(config)
    }

    /// `text_encoder*/` and `tokenizer*/`. A folder whose `model_index.json` names no `text_encoder_3` is one without T5; one
    /// that names it and lacks it is refused, unless T5 is not wanted.
    pub fn text(&self, options: Options) -> Result<TextEncoders> {
        let Options { device, kind, drop_t5 } = options;
        let config: MmditConfig = self.config("transformer", TRANSFORMER)?;
        let clip = |suffix: &str| -> Result<(Tokenizer, ClipText)> {
            let tokenizer = self.part(&format!("tokenizer{suffix}"), &["CLIPTokenizer", "CLIPTokenizerFast"])?;
            let (name, class) = (format!("text_encoder{suffix}"), "CLIPTextModelWithProjection");
            let clip = self.build(&name, class, device, kind, |w, c| ClipText::new(&w.root(), &c))?.0;
            Ok((Tokenizer::clip(tokenizer)?, clip))
        };
        let wanted = names(&self.files.index, "text_encoder_3") && !drop_t5;
        let t5_classes = ["T5TokenizerFast", "T5Tokenizer"];
        let tokenizer = names(&self.files.index, "tokenizer_3");
        let t5_tokenizer = match tokenizer && (wanted || self.files.folder.join("tokenizer_3").is_dir()) {
            true => Some(Tokenizer::t5(self.part("tokenizer_3", &t5_classes)?)?),
            false => None,
        };
        let t5 = match wanted {
            true => {
                let built =
                    self.build("text_encoder_3", "T5EncoderModel", device, kind, |w, c| T5Encoder::new(&w.root(), &c));
                Some(built?.0)
            }
            false => None,
        };
        let text = TextEncoders { clip: [clip("")?, clip("_2")?], t5, t5_tokenizer, width: config.joint_attention_dim };
        text.check(config.pooled_projection_dim).with_context(|| self.at().to_string())?;
        Ok(text)
    }

    /// One part: configuration and weights to a model.
    fn build<C: DeserializeOwned, M>(
        &self,
        name: &str,
        class: &str,
        device: Device,
        kind: Kind,
        make: impl FnOnce(&Weights, C) -> Result<M>,
    ) -> Result<(M, Weights)> {
        let config: C = self.config(name, class)?;
        let (home, single) = (self.home(name, class)?, self.files.single.as_ref());
        let (weights, at) = match (&home, single) {
            (Home::Single(part), Some(single)) => {
                let known: Value = self.config(name, class)?;
                (single.weights(*part, &known, device, kind)?, single.path().to_owned())
            }
            _ => {
                let at = self.files.folder.join(name);
                for shard in shard_paths(&at, self.variant.as_deref())? {
                    weights::check(shard, |_| true)?;
                }
                (Weights::load_variant(&at, self.variant.as_deref(), device, kind)?, at)
            }
        };
        let model = make(&weights, config).with_context(|| format!("cannot load {}", at.display()))?;
        // Buffers that older versions wrote beside the parameters, and in a single file the other parts.
        weights.expect_all_used(|n| {
            let other = |single: &SingleFile| matches!(home, Home::Single(part) if single.may_be_left(part, n));
            n.ends_with("position_ids") || n == "encoder.embed_tokens.weight" || single.is_some_and(other)
        })?;
        Ok((model, weights))
    }
}

/// Whether `model_index.json` names a part. One that is `[null, null]` was left out on purpose.
fn names(index: &Value, part: &str) -> bool {
    index.get(part).and_then(|v| v.get(1)).is_some_and(|c| !c.is_null())
}
