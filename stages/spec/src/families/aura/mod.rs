//! AuraFlow.
//!
//! | file | what |
//! |---|---|
//! | `architecture.rs`, `config.rs`, `layers.rs` | a model by its configurations |
//! | `umt5.rs` | the text encoder's configuration |
//! | `cost.rs` | what a network takes |
//! | `names.rs` | the names that fal published the models under |

mod architecture;
mod config;
mod cost;
mod layers;
mod names;
mod umt5;

pub use architecture::AuraModel;
pub use config::{AuraConfig, GUIDANCE, PATCH, REGISTERS, TEXT};
pub use names::OriginalNames;
pub use umt5::Umt5Config;

use crate::family::{Architecture, Configs, Family, Part, Role, SingleFile};
use crate::linears::Naming;
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The family.
pub struct AuraFlow;

/// The family, for the lists of all.
pub const FAMILY: AuraFlow = AuraFlow;

/// What `model_index.json` says under `_class_name`.
pub const PIPELINE: &str = "AuraFlowPipeline";

const PARTS: [Part; 5] = [
    Part::new("scheduler", Role::Scheduler),
    Part::new("text_encoder", Role::Encoder),
    Part::new("tokenizer", Role::Tokenizer),
    Part::new("transformer", Role::Network),
    Part::new("vae", Role::Autoencoder),
];

impl Family for AuraFlow {
    fn class(&self) -> &'static str {
        PIPELINE
    }

    fn title(&self) -> &'static str {
        "AuraFlow"
    }

    fn parts(&self) -> &'static [Part] {
        &PARTS
    }

    /// The encoder's tokens as far as the tokenizer goes; the network puts its registers before them.
    fn text_tokens(&self, _: &Configs, longest: &dyn Fn(&str) -> Option<u64>) -> u64 {
        let most = TEXT as u64;
        longest("tokenizer").unwrap_or(most).min(most)
    }

    fn architecture(&self, configs: &Configs) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(AuraModel::of(configs)?))
    }

    fn naming(&self) -> &'static dyn Naming {
        &OriginalNames
    }

    fn index(&self) -> Value {
        json!({
            "_class_name": self.class(), "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "transformer": ["diffusers", "AuraFlowTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "T5TokenizerFast"],
        })
    }

    fn single_files(&self) -> bool {
        false
    }

    fn single(&self, _: &Path, _: &BTreeMap<String, Vec<i64>>) -> Option<Box<dyn SingleFile>> {
        None
    }
}
