//! Stable Diffusion 3 and 3.5, and the miniature, which is a small one of them.
//!
//! | file | what |
//! |---|---|
//! | `architecture.rs`, `config.rs`, `layers.rs` | a model by its configurations |
//! | `memory.rs`, `operations.rs` | what it takes |
//! | `original/` | the names that Stability AI published the models under |

mod architecture;
mod config;
mod layers;
mod memory;
mod operations;
pub mod original;

pub use architecture::{Sd3, published_scheduler};
pub use config::MmditConfig;
pub use original::OriginalNames;

use crate::family::{Architecture, Configs, Family, Part, Role, SingleFile};
use crate::linears::Naming;
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The family.
pub struct StableDiffusion3;

/// The family, for the lists of all.
pub const FAMILY: StableDiffusion3 = StableDiffusion3;

/// The pipeline's default for the T5 part of the sequence.
pub const MAX_SEQUENCE_LENGTH: usize = 256;

const PARTS: [Part; 9] = [
    Part::new("scheduler", Role::Scheduler),
    Part::new("text_encoder", Role::Encoder),
    Part::new("text_encoder_2", Role::Encoder),
    Part::new("text_encoder_3", Role::Encoder).droppable(),
    Part::new("tokenizer", Role::Tokenizer),
    Part::new("tokenizer_2", Role::Tokenizer),
    Part::new("tokenizer_3", Role::Tokenizer).droppable(),
    Part::new("transformer", Role::Network),
    Part::new("vae", Role::Autoencoder),
];

impl Family for StableDiffusion3 {
    fn class(&self) -> &'static str {
        "StableDiffusion3Pipeline"
    }

    fn title(&self) -> &'static str {
        "Stable Diffusion 3 and 3.5"
    }

    fn parts(&self) -> &'static [Part] {
        &PARTS
    }

    /// Lengths as the text encoders have them: the first tokenizer's, and at most 256 of T5.
    fn text_tokens(&self, _: &Configs, longest: &dyn Fn(&str) -> Option<u64>) -> u64 {
        let most = MAX_SEQUENCE_LENGTH as u64;
        longest("tokenizer").unwrap_or(77) + longest("tokenizer_3").unwrap_or(most).min(most)
    }

    fn architecture(&self, configs: &Configs) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(Sd3::of(configs)?))
    }

    fn naming(&self) -> &'static dyn Naming {
        &OriginalNames
    }

    fn index(&self) -> Value {
        json!({
            "_class_name": self.class(), "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "transformer": ["diffusers", "SD3Transformer2DModel"], "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModelWithProjection"], "tokenizer": ["transformers", "CLIPTokenizer"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "text_encoder_3": ["transformers", "T5EncoderModel"], "tokenizer_3": ["transformers", "T5TokenizerFast"],
        })
    }

    fn single_files(&self) -> bool {
        true
    }

    fn single(&self, path: &Path, shapes: &BTreeMap<String, Vec<i64>>) -> Option<Box<dyn SingleFile>> {
        original::OneFile::of(&FAMILY, path, shapes).map(|file| Box::new(file) as Box<dyn SingleFile>)
    }
}
