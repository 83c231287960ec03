//! What a family of models is, and what is known of one of its models before any weights are read.
//!
//! A family owns all that its models do not share with others: which files make one, how prompts become a condition, the
//! network, the noise levels, the names of its layers, what it takes of memory and of operations. Everything else in the
//! project sees these traits and those of `opdflow_models::network`. `crate::families` lists the families.
//!
//! A plan asks here, without libtorch: what loads a model is the other trait of a family, `Loader` in `opdflow-models`.

use crate::linears::{Linears, Naming};
use crate::schedule::Schedule;
use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What a part of a model's folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The velocity network.
    Network,
    /// Images to latents and back.
    Autoencoder,
    /// A text encoder.
    Encoder,
    /// What turns words into a text encoder's ids.
    Tokenizer,
    /// The noise levels.
    Scheduler,
}

/// A part of a model's folder that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its folder, which is its name in `model_index.json`.
    pub name: &'static str,
    /// What it is.
    pub role: Role,
    /// Whether `--no-t5` leaves it out.
    pub droppable: bool,
}

impl Part {
    /// A part that is always loaded.
    #[must_use]
    pub const fn new(name: &'static str, role: Role) -> Self {
        Self { name, role, droppable: false }
    }

    /// The same, left out by `--no-t5`.
    #[must_use]
    pub const fn droppable(self) -> Self {
        Self { droppable: true, ..self }
    }

    /// Whether it has a `config.json` and weights.
    #[must_use]
    pub fn has_weights(&self) -> bool {
        matches!(self.role, Role::Network | Role::Autoencoder | Role::Encoder)
    }

    /// The file of its configuration, where it has one.
    #[must_use]
    pub fn config_file(&self) -> Option<&'static str> {
        match self.role {
            Role::Network | Role::Autoencoder | Role::Encoder => Some("config.json"),
            Role::Scheduler => Some("scheduler_config.json"),
            Role::Tokenizer => None,
        }
    }
}

/// The configurations of a model, by the name of the part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configs(pub BTreeMap<String, Value>);

impl Configs {
    /// The configuration of a part.
    ///
    /// # Errors
    /// It is not there, or a key holds something else than it should.
    pub fn of<T: DeserializeOwned>(&self, part: &str) -> Result<T> {
        let value = self.0.get(part).with_context(|| format!("the configuration of `{part}` is absent"))?;
        T::deserialize(value).with_context(|| format!("the configuration of `{part}` does not hold what is expected"))
    }
}

/// The name of a single file in a folder of ours, as stages keep it.
pub const SINGLE_FILE: &str = "model.safetensors";

/// A single file that holds parts of a model under the names that its family was published with. Its header was read.
pub trait SingleFile {
    /// The family that the names are of.
    fn family(&self) -> &'static dyn Family;

    /// The file.
    fn path(&self) -> &Path;

    /// Whether it holds the part of this name in diffusers' layout.
    fn has(&self, part: &str) -> bool;

    /// Numbers in a part.
    fn parameters(&self, part: &str) -> u64;

    /// Whether a part's tensors are in number formats that are read here.
    ///
    /// # Errors
    /// The first that is not.
    fn check(&self, part: &str) -> Result<()>;

    /// A part's configuration, by the shapes of its tensors.
    ///
    /// # Errors
    /// A tensor that tells is missing.
    fn config(&self, part: &str) -> Result<Value>;
}

/// A family of models.
pub trait Family: Sync {
    /// `_class_name` of its models' `model_index.json`.
    fn class(&self) -> &'static str;

    /// What people call it.
    fn title(&self) -> &'static str;

    /// The parts of a model that are loaded. Text encoders stand in the order in which they are trained and saved.
    fn parts(&self) -> &'static [Part];

    /// Length of the text that the network of a model with these configurations sees, in tokens; `longest` gives a tokenizer's
    /// `model_max_length`, by the name of the part.
    fn text_tokens(&self, configs: &Configs, longest: &dyn Fn(&str) -> Option<u64>) -> u64;

    /// A model by its configurations: those of the network and the autoencoder, and the scheduler's where the model has one.
    ///
    /// # Errors
    /// A configuration that is not implemented or cannot be; parts that do not fit each other.
    fn architecture(&self, configs: &Configs) -> Result<Box<dyn Architecture>>;

    /// Other names of its models' layers, which adapters and single files use.
    fn naming(&self) -> &'static dyn Naming;

    /// What `model_index.json` would say of a model that is a single file.
    fn index(&self) -> Value;

    /// Whether single files of the family's models are read.
    fn single_files(&self) -> bool;

    /// The file at `path`, whose tensors have these shapes, if it holds a network of this family under the names that the
    /// family was published with; nothing where no such files are read.
    fn single(&self, path: &Path, shapes: &BTreeMap<String, Vec<i64>>) -> Option<Box<dyn SingleFile>>;
}

/// How a family's networks are guided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guided {
    /// Classifier-free: the network runs for the prompt and for the empty (or negative) one.
    Classifier,
    /// The scale is an input of the network, which runs once.
    Input,
}

impl Guided {
    /// Rows of one image in a forward with this scale.
    #[must_use]
    pub fn rows(self, scale: f64) -> u64 {
        if self == Self::Classifier && scale != 1.0 { 2 } else { 1 }
    }
}

/// Which images a model makes, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// Both sides are multiples of this: the side of a token.
    pub unit: i64,
    /// The side of the model's own images.
    pub own: i64,
    /// The longest side, where there is one.
    pub most: Option<i64>,
}

/// Floating-point operations of one row through a network; a multiplication and an addition count as two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forward {
    /// Products with weights.
    pub products: f64,
    /// Attention.
    pub attention: f64,
}

/// One model by its configurations.
pub trait Architecture: Send + Sync {
    /// Its family.
    fn family(&self) -> &'static dyn Family;

    /// The linear layers of the network: what an adapter can be for.
    fn linears(&self) -> Linears;

    /// The layers of the family's models in general: a name among these is no mistake, though this model may lack it.
    fn kin(&self) -> Linears;

    /// The layers that adapters of this family change where nobody says otherwise, as peft's `target_modules`.
    fn targets(&self) -> Vec<String>;

    /// How the network is guided.
    fn guided(&self) -> Guided;

    /// The guidance scale that images are made with where nobody asks for another.
    fn guidance(&self) -> f64;

    /// Which images it makes.
    fn sides(&self) -> Sides;

    /// Channels, height and width of the latent of an image of this size in pixels.
    ///
    /// # Errors
    /// There is none, or the network does not take it.
    fn latent(&self, height: i64, width: i64) -> Result<[i64; 3]>;

    /// The noise levels that sampling of such a latent visits.
    fn schedule(&self, steps: usize, latent: [i64; 3]) -> Schedule;

    /// The noise level at the share `u` of the training table's levels, 1 at its noisy end: what flow matching trains at. Shifted
    /// once, where the sampling of images may shift twice.
    fn training_sigma(&self, u: f64) -> f64 {
        u
    }

    /// Numbers of the condition of one prompt of this many tokens.
    fn condition(&self, text_tokens: u64) -> u64;

    /// Operations of one row through the network.
    fn forward(&self, latent: [i64; 3], text_tokens: u64) -> Forward;

    /// Operations of decoding one latent.
    fn decoding(&self, latent: [i64; 3]) -> f64;

    /// Numbers of one row that are kept for the backward pass; with `gradient_checkpointing` the inside of the blocks
    /// is not.
    fn kept(&self, latent: [i64; 3], text_tokens: u64, gradient_checkpointing: bool) -> u64;

    /// Numbers of one row that are alive at once in a forward without gradients.
    fn alive(&self, latent: [i64; 3], text_tokens: u64) -> u64;

    /// Numbers that are alive at once where one latent is decoded.
    fn decoded(&self, latent: [i64; 3]) -> u64;
}
