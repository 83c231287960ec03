//! `embed`: prompts through the text encoders, once for all stages that make images of them.

use crate::cost::operations::Operations;
use crate::cost::{memory, operations};
use crate::param::one;
use crate::precision::Precision;
use crate::prompt::provenance;
use crate::{code, param};
use opdflow_api::port::{Input, Output};
use opdflow_api::{Code, Description, Environment, Foreseen, Memory, Ports, Resources, Stage, Work};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The stage kind.
pub struct Embed;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "param::MaxSequenceLength")]
    pub max_sequence_length: Option<usize>,
    #[schemars(with = "param::Threads")]
    pub threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { max_sequence_length: None, threads: one() }
    }
}

impl Stage for Embed {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "embed",
            semantics: 2,
            about: "Encodes sets of prompts and keeps the embeddings. A stage that reads them does not load the text encoders, which at full size are larger than the model.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base model"),
                    Input::many("prompts", &["prompts"], "sets of prompts by name; the names do not matter"),
                ]
            },
            outputs: const {
                &[Output::new(
                    "embeddings",
                    "embeddings",
                    "text tokens and pooled text of every prompt and of the empty one, f32",
                )]
            },
            outside_key: &["threads"],
            seeded: false,
            numeric: true,
        }
    }

    fn environment(&self, _params: &Params) -> Environment {
        Precision::default().environment()
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true, several: true }
    }

    /// The number of prompts, for those downstream to know that the encoders are not theirs to load.
    fn foresee(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        let prompts: u64 = inputs.values().filter_map(provenance::count).sum();
        Foreseen::from([("embeddings".to_owned(), prompts.into())])
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("embed", &[code::MODEL])
    }

    fn work(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let model = Operations::of(inputs, None)?;
        // And the empty one.
        let prompts = operations::prompts(inputs) + 1;
        Some(Work { operations: model.encoding(inputs), bytes: Some(prompts * model.condition()) })
    }

    fn memory(&self, _params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        memory::Work::encoders(inputs).map_or(Vec::new(), |weights| vec![weights, memory::Work::program()])
    }
}
