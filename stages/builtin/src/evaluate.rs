//! `evaluate`: scores and pictures of a model on held-out prompts.

use crate::fitting::fitting;
use crate::memory::judging;
use crate::param_docs::{EMBEDDINGS, MICRO_BATCH, PRECISION, SIZE, THREADS};
use crate::precision::Precision;
use crate::record::{self, Record};
use crate::score::{self, Scores};
use crate::studio::{Shot, Studio};
use crate::train_teacher::{micro, one};
use crate::{adapter, pictures, reward};
use anyhow::{Context as _, Result};
use opdflow_stage::cache::Memo;
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{
    Asset, Description, Fault, Foreseen, Memory, ParamDoc, ParamFault, Resources, Stage, StageContext,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The stage kind.
pub struct Evaluate;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    rewards: BTreeMap<String, Vec<String>>,
    shot: Shot,
    keep: usize,
    size: Option<i64>,
    #[serde(skip_serializing_if = "Precision::is_default")]
    precision: Precision,
    micro_batch: usize,
    threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            rewards: BTreeMap::new(),
            shot: Shot::default(),
            keep: 8,
            size: None,
            precision: Precision::default(),
            micro_batch: micro(),
            threads: one(),
        }
    }
}

impl Params {
    /// The rewards of a set: as given, else the one of the set's own name.
    fn of_set(&self, set: &str) -> Vec<String> {
        self.rewards.get(set).cloned().unwrap_or_else(|| vec![set.to_owned()])
    }
}

/// The sets of prompts, each with a reward that there is.
fn read_sets(params: &Params, context: &StageContext) -> Result<Vec<(String, Vec<Record>)>> {
    let names = context.names("prompts");
    names
        .iter()
        .map(|name| {
            let records = record::read(&context.input(&format!("prompts.{name}"))?)?;
            for wanted in params.of_set(name) {
                if !reward::NAMES.contains(&wanted.as_str()) {
                    let fault = Fault::user(format!("no reward is named like the set of prompts `{name}`"));
                    return Err(fault.help(format!("say which rewards judge it: `rewards: {{{name}: [...]}}`")).into());
                }
                reward::judges(&*reward::one(&wanted)?, &records)?;
            }
            Ok((name.clone(), records))
        })
        .collect()
}

impl Stage for Evaluate {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "evaluate",
            semantics: 1,
            about: "Makes one picture of every prompt, from noise that depends on the seed and the prompt's place alone, and scores them.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base model"),
                    Input::optional("lora", &["lora"], "an adapter; without it the base itself is judged"),
                    Input::many("prompts", &["prompts"], "sets of prompts by name"),
                    Input::optional("embeddings", &["embeddings"], EMBEDDINGS),
                ]
            },
            outputs: const {
                &[
                    Output::new("scores", "scores", "means with standard errors, by set and column (JSON)"),
                    Output::new("samples", "samples", "a JSON line per picture"),
                    Output::new("pictures", "pictures", "the first pictures of every set, as PNG"),
                ]
            },
            params: &[
                ParamDoc {
                    name: "rewards",
                    about: "by set of prompts the rewards that judge it; the reward of the set's own name if absent",
                },
                ParamDoc {
                    name: "shot",
                    about: "`{steps, guidance, solver, seed}`; 40 Euler steps without guidance if absent",
                },
                ParamDoc { name: "keep", about: "pictures kept of each set" },
                SIZE,
                PRECISION,
                MICRO_BATCH,
                THREADS,
            ],
            outside_key: &["micro_batch", "threads"],
            seeded: false,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        for (set, names) in &params.rewards {
            for (i, name) in names.iter().enumerate() {
                if !reward::NAMES.contains(&name.as_str()) {
                    let fault = ParamFault::new(format!("rewards.{set}[{i}]"), format!("no reward is named `{name}`"));
                    faults.push(fault.help(format!("there are {}", reward::NAMES.join(", "))));
                }
            }
        }
        faults.extend(params.shot.solver.fault().map(|f| ParamFault::new("shot.solver", f)));
        if params.shot.steps == 0 {
            faults.push(ParamFault::new("shot.steps", "`steps` is 0, expected at least 1"));
        }
        faults
    }

    fn assets(&self, params: &Params, _folder: &Path, _memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        // Which sets there are is known from the inputs, not here: the recogniser counts always. It is pinned.
        let _ = params;
        Ok(reward::assets(std::iter::once(&"ocr".to_owned())))
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, memory: 1 << 30, gpu: true }
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        judging(inputs, params.size, params.micro_batch, params.shot.guidance, params.precision)
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        fitting(params.micro_batch, context, |micro_batch, context| {
            Self::attempt(Params { micro_batch, ..params.clone() }, context)
        })
    }
}

impl Evaluate {
    /// One attempt, with batches of `params.micro_batch`.
    fn attempt(params: Params, context: &mut StageContext) -> Result<()> {
        let studio = Studio::open(context, "base", params.micro_batch, params.size, params.precision)?;
        let sets = read_sets(&params, context)?;
        studio.recite(sets.iter().flat_map(|(_, records)| records))?;
        let lora = context.maybe_input("lora")?.map(|folder| adapter::load(&folder, &studio, "lora")).transpose()?;
        let total: usize = sets.iter().map(|(_, r)| r.len()).sum();
        let mut scores = Scores::default();
        let mut lines = String::new();
        let mut done = 0;
        let folder = context.output("pictures");
        for (set, records) in &sets {
            let shot = studio.shoot(records, lora.as_ref(), &params.shot, |n| {
                context.progress((done + n) as u64, total as u64, set);
                if context.should_stop() { Err(context.stopped(0)) } else { Ok(()) }
            })?;
            done += records.len();
            let mut columns = BTreeMap::new();
            for name in params.of_set(set) {
                columns.extend(score::columns(&*reward::one(&name)?, &shot, records)?);
            }
            for (i, record) in records.iter().enumerate() {
                let values: BTreeMap<&str, f64> = columns.iter().map(|(c, v)| (c.as_str(), v[i])).collect();
                lines += &(serde_json::json!({"set": set, "text": record.text, "scores": values}).to_string() + "\n");
            }
            std::fs::create_dir_all(folder.join(set)).context("making the folder of pictures")?;
            for (i, (picture, record)) in shot.iter().zip(records).take(params.keep).enumerate() {
                pictures::write_png(&folder.join(set).join(format!("{i:03}.png")), picture)?;
                std::fs::write(folder.join(set).join(format!("{i:03}.txt")), format!("{}\n", record.text))
                    .context("writing a caption")?;
            }
            scores.sets.insert(set.clone(), score::means(&columns));
        }
        let heads: Vec<String> =
            scores.sets.iter().filter_map(|(n, c)| Some(format!("{n} {:.3}", c.get(n)?.mean))).collect();
        context.progress(total as u64, total as u64, &heads.join("  "));
        scores.write(&context.output("scores"))?;
        std::fs::write(context.output("samples"), lines).context("writing the samples")
    }
}
