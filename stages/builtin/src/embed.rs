//! `embed`: prompts through the text encoders, once for all stages that make pictures of them.

use crate::code;
use crate::embeddings::Writer;
use crate::operations::{self, Operations};
use crate::precision::Precision;
use crate::record;
use crate::studio;
use crate::train_teacher::one;
use crate::unfit::unfit;
use crate::{memory, param, provenance};
use anyhow::{Context as _, Result};
use opdflow_models::families;
use opdflow_models::family::Role;
use opdflow_models::network::Options;
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{Code, Description, Environment, Foreseen, Memory, Ports, Resources, Stage, StageContext, Work};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// The stage kind.
pub struct Embed;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    #[schemars(with = "param::Threads")]
    threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { threads: one() }
    }
}

impl Stage for Embed {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "embed",
            semantics: 2,
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
            outside_key: &["threads"],
            seeded: false,
            numeric: true,
        }
    }

    fn environment(&self, _params: &Params) -> Environment {
        Precision::default().environment()
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true }
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

    fn run(&self, _params: Params, context: &mut StageContext) -> Result<()> {
        let device = studio::device(context)?;
        let base = context.object("base").context("a model on no port")?.digest;
        let needed = families::needed(&[Role::Encoder, Role::Tokenizer]);
        let folder = context.input_parts("base", &needed.iter().map(String::as_str).collect::<Vec<_>>())?;
        let options = Options { device, ..Options::default() };
        let text = families::open(folder, None).and_then(|f| f.text(options)).map_err(|e| unfit(&e))?;
        // The empty prompt first: it is the unguided half of every picture.
        let mut prompts = vec![String::new()];
        let mut seen = BTreeSet::from([String::new()]);
        for set in context.names("prompts") {
            let records = record::read(&context.input(&format!("prompts.{set}"))?)?;
            prompts.extend(records.into_iter().map(|r| r.text).filter(|t| seen.insert(t.clone())));
        }
        studio::warn_of_cuts(&*text, prompts.iter().map(String::as_str), context)?;
        let total = prompts.len() as u64;
        let empty = text.embed(&[""], None)?;
        studio::whole_rows(&empty, &prompts[..1])?;
        let mut writer = Writer::new(&context.output("embeddings"), base, &prompts, &empty)?;
        writer.push(&empty)?;
        for (done, prompt) in (1..).zip(&prompts[1..]) {
            context.go_on(0)?;
            let row = text.embed(&[prompt], None)?;
            studio::whole_rows(&row, &[prompt])?;
            writer.push(&row)?;
            context.progress(done + 1, total, "prompts");
        }
        writer.finish()
    }
}
