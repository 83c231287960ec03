//! A Stable Diffusion 3 folder in diffusers' layout (`StableDiffusion3Pipeline`).

use super::original::{FilePart, OneFile};
use super::{Mmdit, MmditConfig, Sd3, Sd3Network, TextEncoders, published_scheduler};
use crate::base_files::{BaseFiles, SingleFile as _};
use crate::config::{read_json, supported};
use crate::family::Architecture;
use crate::network::{Autoencoder, Folder, Network, Options, Text};
use crate::schedule::SchedulerConfig;
use crate::text::clip::ClipText;
use crate::text::t5::T5Encoder;
use crate::text::tokenizer::Tokenizer;
use crate::vae::{Vae, VaeConfig};
use crate::weights::{self, Weights, shard_paths};
use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;
use tch::{Device, Kind};

const TRANSFORMER: &str = "SD3Transformer2DModel";
const VAE: &str = "AutoencoderKL";
/// The parts with weights that every image needs.
const PARTS: [&str; 4] = ["transformer", "vae", "text_encoder", "text_encoder_2"];

/// A base that was found; its parts can be loaded one by one.
pub struct Sd3Folder {
    files: BaseFiles,
    /// What the folder's parts lack, or, where it was named, what goes before them.
    single: Option<OneFile>,
    variant: Option<String>,
}

/// Where a part lies.
enum Home {
    /// In its folder.
    Own,
    /// In the single file.
    Single(FilePart),
}

impl Sd3Folder {
    /// The base of these files.
    ///
    /// # Errors
    /// Several single files, of which none was named.
    pub fn of(mut files: BaseFiles, variant: Option<String>) -> Result<Sd3Folder> {
        // Weights beside the parts are looked at only where a part has none. T5 may be left out, so that it alone forces none.
        let folder = files.folder.clone();
        let lacks = |p: &str| names(&files.index, p) && shard_paths(&folder.join(p), None).is_err();
        let (needed, t5) = (PARTS.iter().any(|p| lacks(p)), lacks("text_encoder_3"));
        if needed {
            files.look_for_single()?;
        } else if t5 {
            let _ = files.look_for_single();
        }
        let single = match &files.single {
            Some(file) => OneFile::of(file.family(), file.path(), &weights::shapes(file.path())?),
            None => None,
        };
        Ok(Sd3Folder { files, single, variant })
    }

    fn at(&self) -> std::path::Display<'_> {
        self.files.folder.display()
    }

    /// The configurations of all parts that sampling needs, checked against each other, without any weights.
    ///
    /// # Errors
    /// As for [`Sd3::new`]; a part that is absent or of another class.
    pub fn sd3(&self) -> Result<Sd3> {
        let (transformer, vae) = (self.config("transformer", TRANSFORMER)?, self.config::<VaeConfig>("vae", VAE)?);
        Sd3::new(transformer, vae, self.scheduler()?).with_context(|| self.at().to_string())
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
        let beside = match &self.single {
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
        let single = self.single.as_ref().zip(FilePart::of_folder(name)).filter(|(file, part)| file.holds(*part));
        match single {
            Some((_, part)) if self.files.named || shard_paths(&at, self.variant.as_deref()).is_err() => {
                Ok(Home::Single(part))
            }
            _ => {
                let t5 = if name == "text_encoder_3" { "; `--no-t5` makes images without it" } else { "" };
                ensure!(at.is_dir(), "{}: the part `{name}` ({class}) is absent{t5}", at.display());
                Ok(Home::Own)
            }
        }
    }

    /// A part's configuration: its file, or what the shapes in the single file say.
    fn config<C: DeserializeOwned>(&self, name: &str, class: &str) -> Result<C> {
        let home = self.home(name, class)?;
        let file = self.files.folder.join(name).join("config.json");
        match (home, &self.single) {
            (Home::Single(part), Some(single)) if !opdflow_io::file::is_named(&file) => {
                serde_json::from_value(single.config_of(part)?).with_context(|| single.path().display().to_string())
            }
            _ => read_json(&file),
        }
    }

    /// `vae/`, always f32, as its config asks (`force_upcast`).
    ///
    /// # Errors
    /// As for [`Folder::autoencoder`].
    pub fn vae(&self, device: Device) -> Result<Vae> {
        Ok(self.build("vae", VAE, device, Kind::Float, |w, c| Vae::new(&w.root(), &c))?.0)
    }

    /// [`Folder::network`].
    ///
    /// # Errors
    /// As there.
    pub fn transformer(&self, device: Device, kind: Kind) -> Result<(Mmdit, Weights)> {
        self.build("transformer", TRANSFORMER, device, kind, |w, c| Mmdit::new(&w.root(), &c))
    }

    /// `scheduler/`; beside a single file it may be absent, and is what all models of Stable Diffusion 3 have.
    fn scheduler(&self) -> Result<SchedulerConfig> {
        if self.single.is_some() && !self.files.folder.join("scheduler").is_dir() {
            return Ok(published_scheduler());
        }
        let at = self.part("scheduler", &["FlowMatchEulerDiscreteScheduler"])?;
        let config: SchedulerConfig = read_json(&at.join("scheduler_config.json"))?;
        config.check_static().with_context(|| at.display().to_string())?;
        Ok(config)
    }

    /// `text_encoder*/` and `tokenizer*/`. A folder whose `model_index.json` names no `text_encoder_3` is one without T5; one
    /// that names it and lacks it is refused, unless T5 is not wanted.
    ///
    /// # Errors
    /// As for [`Folder::text`].
    pub fn encoders(&self, options: Options) -> Result<TextEncoders> {
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
        let (home, single) = (self.home(name, class)?, self.single.as_ref());
        let (weights, at) = match (&home, single) {
            (Home::Single(part), Some(single)) => {
                let known: Value = self.config(name, class)?;
                (super::single::weights(single, *part, &known, device, kind)?, single.path().to_owned())
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
            let other = |single: &OneFile| matches!(home, Home::Single(part) if single.may_be_left(part, n));
            n.ends_with("position_ids") || n == "encoder.embed_tokens.weight" || single.is_some_and(other)
        })?;
        Ok((model, weights))
    }
}

impl Folder for Sd3Folder {
    fn architecture(&self) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(self.sd3()?))
    }

    fn network(&self, device: Device, kind: Kind) -> Result<(Box<dyn Network>, Weights)> {
        let model = self.sd3()?;
        let (transformer, weights) = self.transformer(device, kind)?;
        Ok((Box::new(Sd3Network { model, transformer }), weights))
    }

    fn text(&self, options: Options) -> Result<Box<dyn Text>> {
        Ok(Box::new(self.encoders(options)?))
    }

    fn autoencoder(&self, device: Device) -> Result<Box<dyn Autoencoder>> {
        Ok(Box::new(self.vae(device)?))
    }

    fn fresh<'a>(&self, weights: &dyn Fn(&str) -> Option<&'a Weights>) -> Result<(Box<dyn Network>, Box<dyn Text>)> {
        let folder = &self.files.folder;
        let own = |part: &str| weights(part).with_context(|| format!("no weights for `{part}`"));
        let model = self.sd3()?;
        let transformer = Mmdit::new(&own("transformer")?.root(), &model.transformer)?;
        let clip = |suffix: &str| -> Result<(Tokenizer, ClipText)> {
            let part = format!("text_encoder{suffix}");
            let config = read_json(&folder.join(&part).join("config.json"))?;
            let tokenizer = Tokenizer::clip(folder.join(format!("tokenizer{suffix}")))?;
            Ok((tokenizer, ClipText::new(&own(&part)?.root(), &config)?))
        };
        let config = read_json(&folder.join("text_encoder_3/config.json"))?;
        let t5 = T5Encoder::new(&own("text_encoder_3")?.root(), &config)?;
        let text = TextEncoders {
            clip: [clip("")?, clip("_2")?],
            t5: Some(t5),
            t5_tokenizer: Some(Tokenizer::t5(folder.join("tokenizer_3"))?),
            width: model.transformer.joint_attention_dim,
        };
        text.check(model.transformer.pooled_projection_dim)?;
        Ok((Box::new(Sd3Network { model, transformer }), Box::new(text)))
    }
}

/// Whether `model_index.json` names a part. One that is `[null, null]` was left out on purpose.
fn names(index: &Value, part: &str) -> bool {
    index.get(part).and_then(|v| v.get(1)).is_some_and(|c| !c.is_null())
}
