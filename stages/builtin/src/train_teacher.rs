//! `train_teacher`: one adapter for one reward, by reinforcement learning.

use crate::adapter::{self, Shape};
use crate::learn::{Course, learn};
use crate::param_docs::{EMA, LORA, MICRO_BATCH, OPTIMISER, PACE, SIZE, THREADS};
use crate::prompt_task::PromptTask;
use crate::studio::Studio;
use crate::{bundle, record, reward};
use anyhow::{Context as _, Result};
use opdflow_flow::guard::{Guard, GuardConfig};
use opdflow_flow::lora::Lora;
use opdflow_flow::nft::{Nft, NftConfig};
use opdflow_flow::objective::Objective;
use opdflow_flow::optim::{AdamW, AdamWConfig, EmaConfig};
use opdflow_flow::rng::derive;
use opdflow_flow::teacher::{Explorer, Sampling};
use opdflow_flow::train::{Learner, Pace};
use opdflow_stage::cache::Digest;
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{Asset, Description, Horizon, ParamDoc, ParamFault, Resources, Stage, StageContext};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The stage kind.
pub struct TrainTeacher;

/// The method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Algorithm {
    DiffusionNft(NftConfig),
    GrpoGuard(GuardConfig),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    algorithm: Algorithm,
    reward: reward::Weights,
    iterations: u64,
    #[serde(default = "twenty")]
    candidates_every: u64,
    #[serde(default)]
    sampling: Sampling,
    #[serde(default)]
    lora: Shape,
    #[serde(default)]
    optimiser: AdamWConfig,
    #[serde(default)]
    pace: Pace,
    #[serde(default)]
    ema: EmaConfig,
    #[serde(default)]
    size: Option<i64>,
    #[serde(default = "micro")]
    micro_batch: usize,
    #[serde(default = "one")]
    threads: usize,
}

fn twenty() -> u64 {
    20
}
pub(crate) fn micro() -> usize {
    128
}
pub(crate) fn one() -> usize {
    1
}

impl Stage for TrainTeacher {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "train_teacher",
            semantics: 1,
            about: "Trains an adapter on the frozen base for one reward (or a weighted sum), by DiffusionNFT or GRPO-Guard.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base model"),
                    Input::one("prompts", &["prompts"], "prompts to train on"),
                ]
            },
            outputs: const {
                &[
                    Output::new(
                        "candidates",
                        "candidates",
                        "a folder `step-000020` and so on, an adapter each (averaged weights)",
                    ),
                    Output::new("lora", "lora", "the last of them"),
                    Output::side("timing", "timing", "seconds of training"),
                ]
            },
            params: &[
                ParamDoc {
                    name: "algorithm",
                    about: "`diffusion_nft: {beta, decay, kl, order, times, spread, advantage_clip}` or `grpo_guard: {solver, clip, kl, spread, updates, times}`",
                },
                ParamDoc { name: "reward", about: "rewards with weights, such as `{ocr: 1.0}`" },
                ParamDoc {
                    name: "iterations",
                    about: "rounds; a longer run continues a shorter one of otherwise equal parameters",
                },
                ParamDoc { name: "candidates_every", about: "rounds between candidates" },
                ParamDoc {
                    name: "sampling",
                    about: "`{prompts, group, steps, guidance}` of a round; global sizes, whatever the machine",
                },
                LORA,
                OPTIMISER,
                PACE,
                EMA,
                SIZE,
                MICRO_BATCH,
                THREADS,
            ],
            outside_key: &["micro_batch", "threads"],
            seeded: true,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = reward::check("reward", &params.reward);
        if let Algorithm::GrpoGuard(config) = &params.algorithm {
            let at = "algorithm.grpo_guard.solver";
            if let Some(fault) = config.solver.fault() {
                faults.push(ParamFault::new(at, fault));
            } else if config.solver.deterministic() {
                faults.push(
                    ParamFault::new(at, "this solver adds no noise, so that there is no policy to improve")
                        .help("raise its noise level"),
                );
            }
        }
        for (name, value) in [
            ("iterations", params.iterations),
            ("candidates_every", params.candidates_every),
            ("sampling.prompts", params.sampling.prompts as u64),
            ("sampling.steps", params.sampling.steps as u64),
        ] {
            if value == 0 {
                faults.push(ParamFault::new(name, format!("`{name}` is 0, expected at least 1")));
            }
        }
        if params.sampling.group < 2 {
            faults.push(ParamFault::new(
                "sampling.group",
                format!(
                    "`group` is {}, expected at least 2: a picture is judged against others of its prompt",
                    params.sampling.group
                ),
            ));
        }
        faults
    }

    fn assets(&self, params: &Params, _folder: &Path) -> Result<Vec<Asset>, ParamFault> {
        Ok(reward::assets(params.reward.keys()))
    }

    fn horizon(&self, params: &Params) -> Option<Horizon> {
        Some(Horizon { param: "iterations", steps: params.iterations })
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, memory: 1 << 30, gpu: true }
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        let studio = Studio::open(context, "base", params.micro_batch, params.size)?;
        let records = record::read(&context.input("prompts")?)?;
        let seed = context.job().seed;
        let lora = params.lora.fresh(&studio, derive(seed, "lora", 0))?;
        let mut task = PromptTask {
            name: "teacher".to_owned(),
            studio: &studio,
            records,
            reward: Some(reward::weighted(&params.reward)?),
        };
        let explorer = Explorer {
            model: &studio.pipeline.transformer,
            empty: &studio.empty,
            canvas: studio.canvas,
            sampling: params.sampling.clone(),
            task: &mut task,
            seed,
        };
        let mut objective: Box<dyn Objective> = match params.algorithm {
            Algorithm::DiffusionNft(config) => Box::new(Nft { config, explorer, old: lora.detached(), lora: &lora }),
            Algorithm::GrpoGuard(config) => Box::new(Guard { config, explorer, lora: &lora, seen: None }),
        };
        let optimiser = AdamW::new(params.optimiser.clone(), lora.parameters());
        let mut learner = Learner::new(lora.parameters(), optimiser, params.ema.clone(), params.pace);
        let mut candidates = Candidates {
            lora: &lora,
            base: studio.base,
            every: params.candidates_every,
            folder: context.output("candidates"),
        };
        learn(context, &mut learner, &mut *objective, &mut candidates, params.iterations, 1)?;
        if !params.iterations.is_multiple_of(params.candidates_every) {
            candidates.keep(params.iterations, &learner)?;
        }
        adapter::save(&lora, learner.average(), studio.base, &context.output("lora"))?;
        timing(context)
    }
}

/// Writes the side output `timing`.
pub(crate) fn timing(context: &StageContext) -> Result<()> {
    let text = serde_json::json!({"seconds": context.seconds(), "threads": context.job().threads, "device": context.job().device});
    std::fs::write(context.output("timing"), format!("{text}\n")).context("writing the timing")
}

/// Adapters kept on the way.
struct Candidates<'a> {
    lora: &'a Lora,
    base: Digest,
    every: u64,
    folder: PathBuf,
}

impl Candidates<'_> {
    fn keep(&self, step: u64, learner: &Learner) -> Result<()> {
        adapter::save(self.lora, learner.average(), self.base, &self.folder.join(format!("step-{step:06}")))
    }
}

impl Course for Candidates<'_> {
    fn after(&mut self, _round: u64, learner: &Learner, _context: &mut StageContext) -> Result<()> {
        if learner.rounds().is_multiple_of(self.every) { self.keep(learner.rounds(), learner) } else { Ok(()) }
    }

    fn save(&self, folder: &Path) -> Result<()> {
        if self.folder.exists() {
            bundle::copy_folder(&self.folder, &folder.join("candidates"), |_| true)
        } else {
            Ok(())
        }
    }

    fn load(&mut self, folder: &Path) -> Result<()> {
        let saved = folder.join("candidates");
        if saved.exists() { bundle::copy_folder(&saved, &self.folder, |_| true) } else { Ok(()) }
    }
}
