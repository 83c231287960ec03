//! How much memory a stage takes at its peak, from configurations and parameters, before anything runs.
//!
//! The numbers of tensors below were counted in the network's code, in units of (tokens x width); what a layer keeps for
//! the backward pass is what its derivative reads, with the base's own weights frozen. tests/mini/memory.rs holds the
//! estimate against the memory that a stage took.

use crate::adapter::Shape;
use crate::model_folder::Sizes;
use crate::precision::Precision;
use crate::{jury, model_fit, provenance};
use opdflow_flow::lora::LoraConfig;
use opdflow_flow::mmdit::MmditConfig;
use opdflow_stage::{Foreseen, Memory};

/// Bytes of an f32.
const F32: u64 = 4;

/// libtorch and the program themselves, on a CPU: what a stage of the miniature takes beyond its tensors.
const PROGRAM: u64 = 170_000_000;

/// Kept of each block for the backward pass, per token and width: norms and their inputs, query, key and value before
/// and after their norms, attention's output, the feed-forward part before its activation, gates.
const KEPT: u64 = 20;
/// The same of a second attention, for image tokens alone.
const KEPT_SECOND: u64 = 8;
/// Alive at once in a forward without gradients: the streams, one block's feed-forward part before and after its
/// activation.
const ALIVE: u64 = 14;
/// Alive at once in the decoder's widest place, per pixel and channel there: a residual block's input, its norm and the
/// two sides of a convolution.
const DECODED: u64 = 5;

/// What a stage takes that makes pictures of sets of prompts, on ports `prompts.NAME`, and judges them.
#[must_use]
pub fn judging(inputs: &Foreseen, size: Option<i64>, micro: usize, guidance: f64, precision: Precision) -> Vec<Memory> {
    let Some(work) = Work::of(inputs, size, micro, guidance != 1.0, precision) else { return Vec::new() };
    let sets = inputs.iter().filter(|(port, _)| port.starts_with("prompts."));
    let most = sets.filter_map(|(_, set)| provenance::count(set)).max().unwrap_or(0);
    let batch = if most > 0 { most as usize } else { micro };
    let own = [work.weights(), work.sampling(batch), work.pictures(most), Work::program()];
    own.into_iter().chain(jury::memory(inputs)).collect()
}

/// What a stage does with its model.
pub struct Work {
    sizes: Sizes,
    /// Whether the text encoders are loaded.
    text: bool,
    /// Side of a picture in pixels; the model's own if absent.
    size: Option<i64>,
    /// Largest batch of one forward.
    micro: usize,
    /// Whether each forward runs both halves of guidance.
    guided: bool,
    /// Of the frozen base.
    precision: Precision,
    /// Whether the inside of a block is computed once more for the gradient.
    recompute: bool,
}

impl Work {
    /// With the base on the port `base`, if something is known of it; without its text encoders where `embeddings` has
    /// what they made.
    #[must_use]
    pub fn of(inputs: &Foreseen, size: Option<i64>, micro: usize, guided: bool, precision: Precision) -> Option<Self> {
        let text = !inputs.contains_key("embeddings");
        Some(Self { sizes: model_fit::sizes(inputs)?, text, size, micro, guided, precision, recompute: false })
    }

    /// The same with or without the inside of the blocks kept for the gradient.
    #[must_use]
    pub fn recomputing(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// Bytes of one number of the frozen base, and of what is kept behind it. On a CPU libtorch keeps queries and keys before their
    /// norms in 32 bits all the same; that is not counted.
    fn number(&self) -> u64 {
        match self.precision {
            Precision::F32 | Precision::Tf32 => F32,
            Precision::Bf16 | Precision::F16 => F32 / 2,
        }
    }

    fn side(&self) -> u64 {
        let own = self.sizes.transformer.sample_size * self.sizes.vae.factor();
        self.size.unwrap_or(own).max(1).unsigned_abs()
    }

    fn image_tokens(&self) -> u64 {
        let patch = (self.sizes.vae.factor() * self.sizes.transformer.patch_size).max(1).unsigned_abs();
        (self.side() / patch).pow(2)
    }

    /// Numbers of one latent.
    fn latent(&self) -> u64 {
        let side = self.side() / self.sizes.vae.factor().max(1).unsigned_abs();
        self.sizes.transformer.in_channels.max(0).unsigned_abs() * side * side
    }

    /// Numbers of one prompt's conditioning.
    fn condition(&self) -> u64 {
        let t = &self.sizes.transformer;
        self.sizes.text_tokens * t.joint_attention_dim.max(0).unsigned_abs()
            + t.pooled_projection_dim.max(0).unsigned_abs()
    }

    /// Rows of one forward, of a batch of `batch`.
    fn rows(&self, batch: usize) -> u64 {
        self.micro.min(batch).max(1) as u64 * if self.guided { 2 } else { 1 }
    }

    /// The model.
    #[must_use]
    pub fn weights(&self) -> Memory {
        let text = if self.text { self.sizes.text_parameters } else { 0 };
        let based = self.number() * (self.sizes.transformer_parameters + text);
        Memory::of("weights", based + F32 * self.sizes.vae_parameters)
    }

    /// The text encoders alone, if something is known of the base.
    #[must_use]
    pub fn encoders(inputs: &Foreseen) -> Option<Memory> {
        Some(Memory::of("weights", F32 * model_fit::sizes(inputs)?.text_parameters))
    }

    /// Forward and backward of `batch` pictures' worth of training, or their decoding, whichever is more.
    #[must_use]
    pub fn training(&self, batch: usize, decodes: bool) -> Memory {
        let t = &self.sizes.transformer;
        let (image, width) = (self.image_tokens(), t.width().max(0).unsigned_abs());
        let (layers, tokens) = (t.num_layers.max(0).unsigned_abs(), image + self.sizes.text_tokens);
        let seconds = t.dual_attention_layers.len() as u64;
        let kept = if self.recompute {
            // What enters each block, and the inside of one while it is computed once more and its gradient comes back.
            layers * tokens + tokens * (KEPT + ALIVE) + seconds.min(1) * image * KEPT_SECOND
        } else {
            layers * tokens * KEPT + seconds * image * KEPT_SECOND
        };
        let trained = self.rows(batch) * kept * width * self.number();
        Memory::of("activations", trained.max(if decodes { self.decoding(batch) } else { 0 }))
    }

    /// Sampling of `batch` pictures, or their decoding, whichever is more.
    #[must_use]
    pub fn sampling(&self, batch: usize) -> Memory {
        let width = self.sizes.transformer.width().max(0).unsigned_abs();
        let tokens = self.image_tokens() + self.sizes.text_tokens;
        let alive = self.rows(batch) * tokens * width * ALIVE * self.number();
        Memory::of("activations", alive.max(self.decoding(batch)))
    }

    fn decoding(&self, batch: usize) -> u64 {
        // At full size the decoder still has the second level's channels.
        let channels = &self.sizes.vae.block_out_channels;
        let widest = channels.get(1).or(channels.first()).copied().unwrap_or(1).max(1).unsigned_abs();
        self.micro.min(batch).max(1) as u64 * self.side().pow(2) * widest * DECODED * F32
    }

    /// An adapter in training: itself, its gradient, two moments, the running average, and `more` copies.
    #[must_use]
    pub fn adapter(&self, shape: &Shape, more: u64) -> Memory {
        Memory::of("adapter", lora_parameters(&self.sizes.transformer, shape) * (5 + more) * F32)
    }

    /// What is kept of `pictures` from their sampling to the end of the round: the last latents, and of each step
    /// `tensors` more; conditioning and the pictures themselves.
    #[must_use]
    pub fn round(&self, pictures: usize, steps: usize, tensors: u64) -> Memory {
        let states = (1 + steps as u64 * tensors) * self.latent() * F32;
        Memory::of("round", pictures as u64 * (states + self.condition() * F32 + 3 * self.side().pow(2)))
    }

    /// Pictures of 8 bits that wait for their scores.
    #[must_use]
    pub fn pictures(&self, pictures: u64) -> Memory {
        Memory::of("pictures", pictures * 3 * self.side().pow(2))
    }

    /// The program itself.
    #[must_use]
    pub const fn program() -> Memory {
        Memory::of("program", PROGRAM)
    }
}

/// Parameters of an adapter.
pub(crate) fn lora_parameters(config: &MmditConfig, shape: &Shape) -> u64 {
    let wanted = LoraConfig { rank: shape.rank, alpha: shape.alpha, targets: shape.targets.clone() };
    let targets = config.linears().into_iter().filter(|l| wanted.matches(&l.name));
    targets.map(|l| (l.d_in + l.d_out).unsigned_abs()).sum::<u64>() * shape.rank.max(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The papers' adapter on SD3.5 Medium: 191 matrices of 1536 x 1536 at rank 32.
    #[test]
    fn the_papers_adapter_has_the_papers_size() {
        let config = MmditConfig {
            num_layers: 24,
            num_attention_heads: 24,
            attention_head_dim: 64,
            dual_attention_layers: (0..13).collect(),
            ..MmditConfig::default()
        };
        assert_eq!(lora_parameters(&config, &Shape::default()), 191 * 2 * 1536 * 32);
    }
}
