//! Parameters and inputs that several kinds of stage have: what the reference says of them, and the ranges of their numbers.
//! A field of a parameter type takes one over with `#[schemars(with = "param::Threads")]`; its own type stays a plain
//! number. Values of maps have their ranges here too.

#![allow(dead_code, reason = "only the schemas of these types are used")]

use opdflow_api::{ParamFault, Ports};
use schemars::JsonSchema;

/// Of the input `embeddings`, which several kinds have.
pub const EMBEDDINGS: &str = "the prompts' embeddings by the stage `embed`; with them the text encoders are not loaded";

/// Threads.
#[derive(JsonSchema)]
pub struct Threads(#[schemars(range(min = 1, max = 4096))] usize);

/// Largest batch of one forward.
#[derive(JsonSchema)]
pub struct MicroBatch(#[schemars(range(min = 1, max = 65_536))] usize);

/// Tokens of the text for the encoder whose length is free: T5 in Stable Diffusion 3 (256 if absent; the published trainings have
/// 128) and in FLUX.1. With `embeddings` connected it is said to the stage `embed`.
#[derive(JsonSchema)]
pub struct MaxSequenceLength(#[schemars(range(min = 1, max = 512))] Option<usize>);

/// Side of an image in pixels; the model's own if absent.
#[derive(JsonSchema)]
pub struct Size(#[schemars(range(min = 8, max = 16_384))] Option<i64>);

/// Whether gradients compute activations again instead of keeping them: less memory, more time.
#[derive(JsonSchema)]
pub struct Recompute(bool);

/// A reward's weight. One of weight 0 is computed and does not count, which is warned of.
#[derive(JsonSchema)]
pub struct Weight(#[schemars(range(min = 0.0, max = 1e6))] f64);

/// Images of one prompt.
#[derive(JsonSchema)]
pub struct Images(#[schemars(range(min = 1, max = 10_000))] usize);

/// A guidance scale; 1 is none.
#[derive(JsonSchema)]
pub struct Guidance(#[schemars(range(min = 0.0, max = 100.0))] f64);

/// How far a column may fall; where it must rise, a number below 0.
#[derive(JsonSchema)]
pub struct Fall(#[schemars(range(min = -1e6, max = 1e6))] f64);

/// An adapter's weight; below 0 what it learnt is taken off.
#[derive(JsonSchema)]
pub struct Share(#[schemars(range(min = -1000.0, max = 1000.0))] f64);

/// A published number.
#[derive(JsonSchema)]
pub struct Number(#[schemars(range(min = -1e12, max = 1e12))] f64);

/// The fault of a length of the text in a stage that reads embeddings, which have their own.
#[must_use]
pub fn length_of_embeddings(length: Option<usize>, ports: &Ports) -> Option<ParamFault> {
    let there = length.is_some() && ports.contains("embeddings");
    let what = "the prompts' embeddings have a length already";
    there.then(|| {
        ParamFault::new("max_sequence_length", what).help("give it to the stage `embed`, or connect no `embeddings`")
    })
}

/// Where a recipe names no `micro_batch`.
#[must_use]
pub fn micro() -> usize {
    128
}

/// Where a recipe names no `threads`.
#[must_use]
pub fn one() -> usize {
    1
}
