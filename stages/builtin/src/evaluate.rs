//! `evaluate`: scores and pictures of a model on held-out prompts.

use crate::fitting::fitting;
use crate::judge::{self, Set, Wanted};
use crate::jury::{CRITICS, Jury};
use crate::memory::judging;
use crate::operations::shots;
use crate::param::{self, EMBEDDINGS};
use crate::precision::Precision;
use crate::score::{self, Scores};
use crate::studio::{Shot, Studio};
use crate::train_teacher::{micro, one};
use crate::{adapter, code, model_fit, pictures, provenance};
use anyhow::{Context as _, Result};
use opdflow_stage::cache::Memo;
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{
    Asset, Code, Description, Doubt, Environment, Foreseen, Memory, ParamFault, Ports, Resources, Stage, StageContext,
    Work,
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
    /// By set of prompts the rewards that judge it; the reward of the set's own name if absent.
    rewards: Wanted,
    shot: Shot,
    /// Pictures kept of each set.
    #[schemars(range(min = 0, max = 1_000_000))]
    keep: usize,
    #[schemars(with = "param::Size")]
    size: Option<i64>,
    #[serde(skip_serializing_if = "Precision::is_default")]
    precision: Precision,
    #[schemars(with = "param::MicroBatch")]
    micro_batch: usize,
    #[schemars(with = "param::Threads")]
    threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            rewards: Wanted::new(),
            shot: Shot::default(),
            keep: 8,
            size: None,
            precision: Precision::default(),
            micro_batch: micro(),
            threads: one(),
        }
    }
}

impl Stage for Evaluate {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "evaluate",
            semantics: 2,
            about: "Makes one picture of every prompt, from noise that depends on the seed and the prompt's place alone, and scores them.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base model"),
                    Input::optional("lora", &["lora"], "an adapter; without it the base itself is judged"),
                    Input::many("prompts", &["prompts"], "sets of prompts by name"),
                    Input::optional("embeddings", &["embeddings"], EMBEDDINGS),
                    CRITICS,
                ]
            },
            outputs: const {
                &[
                    Output::new("scores", "scores", "means with standard errors, by set and column (JSON)"),
                    Output::new("samples", "samples", "a JSON line per picture"),
                    Output::new("pictures", "pictures", "the first pictures of every set, as PNG"),
                ]
            },
            outside_key: &["micro_batch", "threads"],
            seeded: false,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        judge::check(&params.rewards)
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        judge::wired(&params.rewards, ports)
    }

    fn foresee(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        judge::foresee("scores", &params.rewards, inputs)
    }

    fn unfit(&self, params: &Params, _folder: &Path, _ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let of_model = model_fit::faults(inputs, params.size, None);
        of_model.into_iter().chain(judge::unfit(&params.rewards, inputs)).collect()
    }

    fn lacks(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        judge::lacks(&params.rewards, ports)
    }

    fn assets(&self, _params: &Params, _folder: &Path, _memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        Ok(judge::assets())
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true }
    }

    fn environment(&self, params: &Params) -> Environment {
        params.precision.environment()
    }

    fn code(&self, params: &Params, ports: &Ports) -> Code {
        let rewards = code::judging(code::wanted(&params.rewards, ports), ports);
        code::of("evaluate", &[code::MODEL, &rewards])
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let (model, shots) = shots(inputs, params.size, params.shot.steps, params.shot.guidance)?;
        let sets = inputs.iter().filter(|(port, _)| port.starts_with("prompts."));
        let kept = sets.filter_map(|(_, set)| provenance::count(set)).map(|n| n.min(params.keep as u64)).sum();
        Some(Work { operations: shots + model.encoding(inputs), bytes: Some(model.pixels(kept)) })
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        judging(inputs, params.size, params.micro_batch, params.shot.guidance, params.precision)
    }

    fn doubts(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Vec<Doubt> {
        provenance::leaks(inputs, "lora")
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
        let jury = Jury::connected(context, studio.canvas.device)?;
        let sets = Set::connected(&params.rewards, &jury, context)?;
        studio.recite(sets.iter().flat_map(|s| &s.records), context)?;
        let lora = context.object("lora").map(|_| adapter::input(context, "lora", &studio)).transpose()?;
        let total: usize = sets.iter().map(|s| s.records.len()).sum();
        let mut scores = Scores::default();
        let mut lines = String::new();
        let mut done = 0;
        let folder = context.output("pictures");
        for judged in &sets {
            let (set, records) = (&judged.name, &judged.records);
            let shot = studio.shoot(records, lora.as_ref(), &params.shot, |n| {
                context.progress((done + n) as u64, total as u64, set);
                context.go_on(0)
            })?;
            done += records.len();
            let columns = judged.columns(&shot)?;
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
