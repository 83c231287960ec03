//! FLUX.1, dev and schnell.
//!
//! | file | what |
//! |---|---|
//! | `architecture.rs`, `config.rs`, `layers.rs` | a model by its configurations |
//! | `cost.rs` | what it takes |
//! | `names.rs` | the names that Black Forest Labs published the models under |

mod architecture;
mod config;
mod cost;
mod layers;
mod names;

pub use architecture::FluxModel;
pub use config::{FluxConfig, GUIDANCE, LONGEST_TEXT, PATCH};
pub use layers::{LORA_TARGETS, lora_config};
pub use names::OriginalNames;

use crate::family::{Architecture, Configs, Family, Part, Role, SingleFile};
use crate::linears::Naming;
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The family.
pub struct Flux1;

/// The family, for the lists of all.
pub const FAMILY: Flux1 = Flux1;

/// What `model_index.json` says under `_class_name`.
pub const PIPELINE: &str = "FluxPipeline";

const PARTS: [Part; 7] = [
    Part::new("scheduler", Role::Scheduler),
    Part::new("text_encoder", Role::Encoder),
    Part::new("text_encoder_2", Role::Encoder),
    Part::new("tokenizer", Role::Tokenizer),
    Part::new("tokenizer_2", Role::Tokenizer),
    Part::new("transformer", Role::Network),
    Part::new("vae", Role::Autoencoder),
];

impl Family for Flux1 {
    fn class(&self) -> &'static str {
        PIPELINE
    }

    fn title(&self) -> &'static str {
        "FLUX.1"
    }

    fn parts(&self) -> &'static [Part] {
        &PARTS
    }

    /// T5's tokens alone, as the text encoders have them: 512 for dev and 256 for schnell, as far as the tokenizer goes.
    fn text_tokens(&self, configs: &Configs, longest: &dyn Fn(&str) -> Option<u64>) -> u64 {
        let own = configs.of::<FluxConfig>("transformer").map_or(LONGEST_TEXT, |config| config.max_sequence_length());
        let most = own as u64;
        longest("tokenizer_2").unwrap_or(most).min(most)
    }

    fn architecture(&self, configs: &Configs) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(FluxModel::of(configs)?))
    }

    fn naming(&self) -> &'static dyn Naming {
        &OriginalNames
    }

    fn index(&self) -> Value {
        json!({
            "_class_name": self.class(), "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "transformer": ["diffusers", "FluxTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
            "text_encoder_2": ["transformers", "T5EncoderModel"], "tokenizer_2": ["transformers", "T5TokenizerFast"],
        })
    }

    fn single_files(&self) -> bool {
        false
    }

    fn single(&self, _: &Path, _: &BTreeMap<String, Vec<i64>>) -> Option<Box<dyn SingleFile>> {
        None
    }
}
