//! `embed`: prompts through the text encoders, once for all stages that make pictures of them.

use crate::embeddings::Writer;
use crate::fitting::fitting;
use crate::memory::Work;
use crate::param;
use crate::precision::Precision;
use crate::prompt_set::PromptSet;
use crate::record;
use crate::studio;
use crate::train_teacher::{micro, one};
use anyhow::{Context as _, Result};
use opdflow_flow::pipeline::{Folder, Options};
use opdflow_flow::text::embed::MAX_SEQUENCE_LENGTH;
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{Description, Environment, Fault, Foreseen, Memory, Resources, Stage, StageContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// The stage kind.
pub struct Embed;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    #[schemars(with = "param::MicroBatch")]
    micro_batch: usize,
    #[schemars(with = "param::Threads")]
    threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { micro_batch: micro(), threads: one() }
    }
}

impl Stage for Embed {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "embed",
            semantics: 1,
            about: "Runs the text encoders over sets of prompts and keeps what they make of them. A stage that reads it does not load the encoders, which at full size are larger than the model.",
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
            outside_key: &["micro_batch", "threads"],
            seeded: false,
            numeric: true,
        }
    }

    fn environment(&self, _params: &Params) -> Environment {
        Precision::default().environment()
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, memory: 1 << 30, gpu: true }
    }

    /// The number of prompts, for those downstream to know that the encoders are not theirs to load.
    fn foresee(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        let sets = inputs.keys().filter_map(|port| PromptSet::on(inputs, port));
        let prompts: u64 = sets.map(|set| set.count).sum();
        Foreseen::from([("embeddings".to_owned(), prompts.into())])
    }

    fn memory(&self, _params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        Work::encoders(inputs).map_or(Vec::new(), |weights| vec![weights, Work::program()])
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        fitting(params.micro_batch, context, |micro_batch, context| {
            Self::attempt(Params { micro_batch, ..params.clone() }, context)
        })
    }
}

impl Embed {
    /// One attempt, with batches of `params.micro_batch`.
    fn attempt(params: Params, context: &mut StageContext) -> Result<()> {
        let device = studio::device(context)?;
        let base = context.object("base").context("a model on no port")?.digest;
        let folder = context.input_parts("base", &PARTS)?;
        let options = Options { device, ..Options::default() };
        let text = Folder::open(folder).and_then(|f| f.text(options)).map_err(|e| Fault::user(format!("{e:#}")))?;
        // The empty prompt first: it is the unguided half of every picture.
        let mut prompts = vec![String::new()];
        let mut seen = BTreeSet::from([String::new()]);
        for set in context.names("prompts") {
            let records = record::read(&context.input(&format!("prompts.{set}"))?)?;
            prompts.extend(records.into_iter().map(|r| r.text).filter(|t| seen.insert(t.clone())));
        }
        let total = prompts.len() as u64;
        let length = text.t5_length(MAX_SEQUENCE_LENGTH);
        let first = text.embed(&prompts[..1], length)?;
        let mut writer = Writer::new(&context.output("embeddings"), base, &prompts, &first)?;
        writer.push(&first)?;
        let mut done = 1;
        for chunk in prompts[1..].chunks(params.micro_batch.max(1)) {
            context.go_on(0)?;
            // Never one alone: a product with a single row is another kernel, whose last bit may differ.
            let rows = match chunk {
                [one] => text.embed(&[one, one], length)?.narrow(0, 1),
                many => text.embed(many, length)?,
            };
            writer.push(&rows)?;
            done += chunk.len() as u64;
            context.progress(done, total, "prompts");
        }
        writer.finish()
    }
}

/// What the encoders need of a model folder.
const PARTS: [&str; 8] = [
    "model_index.json",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "tokenizer",
    "tokenizer_2",
    "tokenizer_3",
    // For the width of its text tokens alone.
    "transformer/config.json",
];
