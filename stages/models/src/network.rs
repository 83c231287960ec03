//! A model that is loaded, part by part: what a family has of tensors, behind traits.

use crate::base_files::BaseFiles;
use crate::condition::{Condition, Tokens};
use crate::family::Architecture;
use crate::lora::Lora;
use crate::weights::Weights;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// How to load a model.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where everything goes.
    pub device: Device,
    /// The kind of the network and the text encoders. The autoencoder is always f32.
    pub kind: Kind,
    /// Leave out what the family can do without (`crate::family::Part::droppable`): SD3's T5.
    pub drop_t5: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { device: Device::Cpu, kind: Kind::Float, drop_t5: false }
    }
}

/// What loads the models of a family: the other half of [`crate::family::Family`].
pub trait Loader: Sync {
    /// A model that was found. `variant`: which of several files of weights a part has (`fp16` for
    /// `model.fp16.safetensors`).
    ///
    /// # Errors
    /// Several single files, of which none was named.
    fn open(&self, files: BaseFiles, variant: Option<String>) -> Result<Box<dyn Folder>>;
}

/// A model's files, from which its parts can be loaded one by one.
pub trait Folder {
    /// The model by its configurations, without any weights.
    ///
    /// # Errors
    /// As for [`crate::family::Family::architecture`]; a part that is absent or of another class.
    fn architecture(&self) -> Result<Box<dyn Architecture>>;

    /// The network and its tensors by name, which take no gradients until told to.
    ///
    /// # Errors
    /// Files that are absent or damaged, tensors that are missing, of another shape or not finite.
    fn network(&self, device: Device, kind: Kind) -> Result<(Box<dyn Network>, Weights)>;

    /// Text encoders and tokenizers.
    ///
    /// # Errors
    /// As for [`Folder::network`]; parts that do not fit each other.
    fn text(&self, options: Options) -> Result<Box<dyn Text>>;

    /// The autoencoder, f32.
    ///
    /// # Errors
    /// As for [`Folder::network`].
    fn autoencoder(&self, device: Device) -> Result<Box<dyn Autoencoder>>;

    /// Network and text encoders over weights that the caller has made, by the name of the part; configurations and
    /// tokenizers are the folder's. For training from nothing.
    ///
    /// # Errors
    /// As for [`Folder::architecture`].
    fn fresh<'a>(&self, weights: &dyn Fn(&str) -> Option<&'a Weights>) -> Result<(Box<dyn Network>, Box<dyn Text>)>;
}

/// What a network is asked.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Latents at their noise levels, `[B, C, H, W]` f32.
    pub state: &'a Tensor,
    /// The noise level of each, `[B]` f32, from 0 to 1.
    pub sigma: &'a Tensor,
    /// A row for each.
    pub condition: &'a Condition,
    /// The guidance scale, for a network that takes it as an input ([`crate::family::Guided::Input`]).
    pub guidance: Option<f64>,
}

/// Takes the gradient of a network's result and adds what follows from it to those of adapter and weights. Gradients must be
/// on, and the adapter as it was.
pub type Backward<'a> = Box<dyn FnOnce(&Tensor) + 'a>;

/// A velocity network. It never changes: an adapter is an argument.
pub trait Network: Send {
    /// The model by its configurations.
    fn architecture(&self) -> &dyn Architecture;

    /// The kind in which it computes.
    fn kind(&self) -> Kind;

    /// Where it lives.
    fn device(&self) -> Device;

    /// Whether it can be asked with such a condition: [`Network::velocity`] takes no other.
    ///
    /// # Errors
    /// The condition is another model's.
    fn takes(&self, condition: &Condition) -> Result<()>;

    /// The velocity, in the kind and shape of the state.
    fn velocity(&self, input: &Input, lora: Option<&Lora>) -> Tensor;

    /// The velocity without a graph behind it, and the pass that computes the network's inside once more for the gradient:
    /// less memory, more time, the same numbers.
    fn velocity_to_recompute<'a>(&'a self, input: &Input, lora: Option<&'a Lora>) -> (Tensor, Backward<'a>);

    /// The noise levels that training sees for `u`, `[B]` f32 in 0 to 1, of such a latent: those that sampling visits.
    fn levels(&self, u: &Tensor, latent: [i64; 3]) -> Tensor;
}

/// How many prompts a text encoder does not read to their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The encoder's name.
    pub encoder: &'static str,
    /// Tokens that it reads.
    pub length: usize,
    /// Prompts that are longer.
    pub count: usize,
}

/// Encodes prompts without gradients, each in a batch of its own: which kernel a product takes, and with it the last bit, may
/// depend on the number of rows, and a prompt must become the same bytes whatever it is asked for with.
///
/// # Errors
/// What `encode` says of one of them, or of none where there are none.
pub fn each_alone<S: AsRef<str>>(prompts: &[S], encode: impl Fn(&[&str]) -> Result<Condition>) -> Result<Condition> {
    let _guard = tch::no_grad_guard();
    if prompts.is_empty() {
        return encode(&[]);
    }
    let rows = prompts.iter().map(|prompt| encode(&[prompt.as_ref()])).collect::<Result<Vec<_>>>()?;
    Ok(Condition::cat(&rows.iter().collect::<Vec<_>>()))
}

/// The text side of a model. Drop it when all prompts are encoded: at full size it is larger than the network.
pub trait Text: Send {
    /// Encodes prompts, a row each, without gradients and in the encoders' kind. A prompt becomes the same bytes whatever it is
    /// asked for with. `length`: tokens of the text where the family lets the user say; its default if absent.
    ///
    /// # Errors
    /// A prompt that cannot be tokenised; a tokenizer that does not belong to its encoder.
    fn embed(&self, prompts: &[&str], length: Option<usize>) -> Result<Condition>;

    /// For each encoder how many of these prompts are longer than it reads.
    ///
    /// # Errors
    /// A prompt that cannot be tokenised.
    fn cut(&self, prompts: &[&str], length: Option<usize>) -> Result<Vec<Cut>>;

    /// Prompts as ids of the tokenizers, a row each.
    ///
    /// # Errors
    /// As for [`Text::embed`].
    fn tokens(&self, prompts: &[&str]) -> Result<Tokens>;

    /// Encodes tokens in one batch, with gradients where the caller has them on: for training, where the batch is part of what
    /// is computed.
    ///
    /// # Errors
    /// Tokens of another model.
    fn encode(&self, tokens: &Tokens) -> Result<Condition>;
}

/// Images to latents and back.
pub trait Autoencoder: Send {
    /// Images `[B, 3, H, W]` in -1..1 to the most probable latents as the network sees them, `[B, C, h, w]`.
    fn encode(&self, images: &Tensor) -> Tensor;

    /// Latents as the network makes them, `[B, C, h, w]`, to images `[B, 3, H, W]`, about -1..1, not clamped.
    fn decode(&self, latents: &Tensor) -> Tensor;

    /// The same in overlapping tiles: less memory, seams that are faded over.
    fn decode_tiled(&self, latents: &Tensor) -> Tensor;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_can_cross_threads() {
        fn send<T: Send>() {}
        send::<Weights>();
        send::<Lora>();
        send::<Box<dyn Network>>();
        send::<Box<dyn Text>>();
        send::<Box<dyn Autoencoder>>();
    }
}
