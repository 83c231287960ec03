//! How much memory a stage takes at its peak, from configurations and parameters, before anything runs.
//!
//! What network and autoencoder keep is the family's to say (`Architecture`); tests/mini/memory.rs holds the estimate against
//! the memory that a stage took.

use crate::judging::reward_models;
use crate::model::model_fit;
use crate::model::model_fit::Model;
use crate::model::shape::Shape;
use crate::precision::Precision;
use crate::prompt::provenance;
use opdflow_api::{Foreseen, Memory};
use opdflow_spec::family::Architecture;
use opdflow_spec::family::Role;

/// Bytes of an f32.
const F32: u64 = 4;

/// libtorch and the program themselves, on a CPU: what a stage of the miniature takes beyond its tensors.
const PROGRAM: u64 = 170_000_000;

/// What a stage takes that makes images of sets of prompts, on ports `prompts.NAME`, `images` of each, and judges them.
#[must_use]
pub fn judging(
    inputs: &Foreseen,
    size: Option<i64>,
    micro: usize,
    guidance: f64,
    precision: Precision,
    images: usize,
) -> Vec<Memory> {
    let Some(work) = Work::of(inputs, size, micro, guidance != 1.0, precision) else { return Vec::new() };
    let most = most_images(inputs, images).unwrap_or(0);
    let batch = if most > 0 { most as usize } else { micro };
    let own = [work.weights(), work.sampling(batch), work.images(most), Work::program()];
    own.into_iter().chain(reward_models::memory(inputs)).collect()
}

/// The most images of one set of prompts, on ports `prompts.NAME`, with at most `images` of each prompt; nothing if no set's size is known.
#[must_use]
pub fn most_images(inputs: &Foreseen, images: usize) -> Option<u64> {
    let sets = inputs.iter().filter(|(port, _)| port.starts_with("prompts."));
    sets.filter_map(|(_, set)| provenance::count(set)).max().map(|most| most.saturating_mul(images as u64))
}

/// What a stage does with its model.
pub struct Work {
    model: Model,
    /// Whether the text encoders are loaded.
    text: bool,
    /// Side of an image in pixels.
    side: u64,
    /// Channels, height and width of its latent.
    latent: [i64; 3],
    /// Largest batch of one forward.
    micro: usize,
    /// Whether each forward is guided.
    guided: bool,
    /// Of the frozen base.
    precision: Precision,
    /// Whether the inside of a block is computed once more for the gradient.
    gradient_checkpointing: bool,
}

impl Work {
    /// With the base on the port `base`, if something is known of it and it makes images of this side (its own if
    /// absent); without its text encoders where `embeddings` has what they made.
    #[must_use]
    pub fn of(inputs: &Foreseen, size: Option<i64>, micro: usize, guided: bool, precision: Precision) -> Option<Self> {
        let (text, model) = (!inputs.contains_key("embeddings"), model_fit::model(inputs)?);
        let side = size.unwrap_or(model.architecture.sides().own);
        let latent = model.architecture.latent(side, side).ok()?;
        let side = side.max(1).unsigned_abs();
        Some(Self { model, text, side, latent, micro, guided, precision, gradient_checkpointing: false })
    }

    /// The same with or without the inside of the blocks kept for the gradient.
    #[must_use]
    pub fn recomputing(self, gradient_checkpointing: bool) -> Self {
        Self { gradient_checkpointing, ..self }
    }

    /// Bytes of one number of the frozen base, and of what is kept behind it. On a CPU libtorch keeps queries and keys before their
    /// norms in 32 bits all the same; that is not counted.
    fn number(&self) -> u64 {
        match self.precision {
            Precision::F32 | Precision::Tf32 => F32,
            Precision::Bf16 | Precision::F16 => F32 / 2,
        }
    }

    /// Numbers of one latent.
    fn latent(&self) -> u64 {
        self.latent.iter().map(|n| n.max(&0).unsigned_abs()).product()
    }

    /// Numbers of one prompt's conditioning.
    fn condition(&self) -> u64 {
        self.model.architecture.condition(self.model.sizes.text_tokens)
    }

    /// Rows of one forward, of a batch of `batch`.
    fn rows(&self, batch: usize) -> u64 {
        let halves = if self.guided { self.model.architecture.guided().rows(2.0) } else { 1 };
        self.micro.min(batch).max(1) as u64 * halves
    }

    /// The model.
    #[must_use]
    pub fn weights(&self) -> Memory {
        let sizes = &self.model.sizes;
        let text = if self.text { sizes.parameters(Role::Encoder) } else { 0 };
        let based = self.number() * (sizes.parameters(Role::Network) + text);
        Memory::of("weights", based + F32 * sizes.parameters(Role::Autoencoder))
    }

    /// The text encoders alone, if something is known of the base.
    #[must_use]
    pub fn encoders(inputs: &Foreseen) -> Option<Memory> {
        Some(Memory::of("weights", F32 * model_fit::model(inputs)?.sizes.parameters(Role::Encoder)))
    }

    /// Forward and backward of `batch` images' worth of training, or their decoding, whichever is more.
    #[must_use]
    pub fn training(&self, batch: usize, decodes: bool) -> Memory {
        let kept = self.model.architecture.kept(self.latent, self.model.sizes.text_tokens, self.gradient_checkpointing);
        let trained = self.rows(batch) * kept * self.number();
        Memory::of("activations", trained.max(if decodes { self.decoding(batch) } else { 0 }))
    }

    /// Sampling of `batch` images, or their decoding, whichever is more.
    #[must_use]
    pub fn sampling(&self, batch: usize) -> Memory {
        let alive = self.model.architecture.alive(self.latent, self.model.sizes.text_tokens);
        Memory::of("activations", (self.rows(batch) * alive * self.number()).max(self.decoding(batch)))
    }

    fn decoding(&self, batch: usize) -> u64 {
        self.micro.min(batch).max(1) as u64 * self.model.architecture.decoded(self.latent) * F32
    }

    /// An adapter in training: itself, its gradient, two moments, the running average, and `more` copies.
    #[must_use]
    pub fn adapter(&self, shape: &Shape, more: u64) -> Memory {
        Memory::of("adapter", lora_parameters(&*self.model.architecture, shape) * (5 + more) * F32)
    }

    /// What is kept of `images` from their sampling to the end of the round: the last latents, and of each step
    /// `tensors` more; conditioning and the images themselves.
    #[must_use]
    pub fn round(&self, images: usize, steps: usize, tensors: u64) -> Memory {
        let states = (1 + steps as u64 * tensors) * self.latent() * F32;
        Memory::of("round", images as u64 * (states + self.condition() * F32 + 3 * self.side.pow(2)))
    }

    /// Images of 8 bits that wait for their scores.
    #[must_use]
    pub fn images(&self, images: u64) -> Memory {
        Memory::of("images", images * 3 * self.side.pow(2))
    }

    /// The program itself.
    #[must_use]
    pub const fn program() -> Memory {
        Memory::of("program", PROGRAM)
    }
}

/// Parameters of an adapter of this shape for this base.
pub fn lora_parameters(base: &dyn Architecture, shape: &Shape) -> u64 {
    let wanted = shape.config(base);
    let targets = base.linears();
    let targets = targets.iter().filter(|l| wanted.matches(&l.name));
    targets.map(|l| (l.d_in + l.d_out).unsigned_abs()).sum::<u64>() * shape.rank.max(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bundle;

    #[test]
    fn an_adapter_has_a_column_and_a_row_for_each_rank() {
        let base = bundle::named("bundled:mini").unwrap().sizes().unwrap().architecture().unwrap();
        let shape = Shape { rank: 3, alpha: 1.0, target_modules: Some(vec!["attn.to_q".into(), "attn.to_k".into()]) };
        let blocks = base.linears().iter().filter(|l| l.name.ends_with("attn.to_q")).count() as u64;
        assert_eq!(lora_parameters(&*base, &shape), blocks * 2 * 3 * (96 + 96));
        let all = Shape { target_modules: Some(base.targets()), ..shape.clone() };
        assert_eq!(lora_parameters(&*base, &all), lora_parameters(&*base, &Shape { target_modules: None, ..shape }));
    }
}
