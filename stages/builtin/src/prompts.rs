//! `prompts`: sets of prompts of the miniature world, or a user's own.

use crate::record::{self, Record};
use anyhow::Result;
use opdflow_stage::cache::Digest;
use opdflow_stage::port::Output;
use opdflow_stage::{Asset, Description, Fault, ParamDoc, ParamFault, Stage, StageContext};
use opdflow_world::{Family, Mix, Split};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The stage kind.
pub struct Prompts;

/// A task of the miniature world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum World {
    /// Scenes of shapes with GenEval's metadata.
    Geneval,
    /// Words to be written.
    Ocr,
    /// Landscapes.
    Scene,
    /// All families alike: general prompts, as for a reward of looks.
    Mix,
}

/// A user's own prompts: paths are relative to the recipe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Files {
    train: Option<PathBuf>,
    validation: Option<PathBuf>,
    test: Option<PathBuf>,
}

impl Files {
    fn each(&self) -> [(&'static str, Option<&PathBuf>); 3] {
        [("train", self.train.as_ref()), ("validation", self.validation.as_ref()), ("test", self.test.as_ref())]
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    task: Option<World>,
    mix: Option<String>,
    files: Files,
    train: usize,
    validation: usize,
    test: usize,
    seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self { task: None, mix: None, files: Files::default(), train: 4096, validation: 96, test: 256, seed: 0 }
    }
}

impl Stage for Prompts {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "prompts",
            semantics: 1,
            about: "Prompts for training, for choosing and for the figures that are reported: drawn from the miniature world, or a user's own files.",
            inputs: &[],
            outputs: const {
                &[
                    Output::new("train", "prompts", "prompts to train on").maybe(),
                    Output::new("validation", "prompts", "prompts to choose a checkpoint by").maybe(),
                    Output::new("test", "prompts", "held-out prompts").maybe(),
                ]
            },
            params: &[
                ParamDoc { name: "task", about: "family of the miniature world: `geneval`, `ocr`, `scene` or `mix`" },
                ParamDoc {
                    name: "mix",
                    about: "with `task: mix`: the families with their weights, such as `scene:4,geneval:1,ocr:1`; all alike if absent",
                },
                ParamDoc {
                    name: "files",
                    about: "instead of `task`: your own files under `train`, `validation`, `test`; a line is plain words, GenEval's JSON, or JSON with `text`, `target`, `geneval`",
                },
                ParamDoc {
                    name: "train",
                    about: "number of training prompts drawn from the world; the sets share no text where the space of texts is large enough",
                },
                ParamDoc { name: "validation", about: "number of validation prompts" },
                ParamDoc { name: "test", about: "number of test prompts" },
                ParamDoc {
                    name: "seed",
                    about: "seed of the draw; apart from the recipe's, so that runs with several seeds are judged on the same prompts",
                },
            ],
            outside_key: &["files"],
            seeded: false,
            numeric: false,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        if let Some(Err(e)) = params.mix.as_deref().map(str::parse::<Mix>) {
            return vec![ParamFault::new("mix", e.to_string())];
        }
        let own = params.files.each().iter().any(|(_, f)| f.is_some());
        match (params.task, own) {
            (Some(_), true) => vec![ParamFault::new("task", "`task` and `files` exclude each other")],
            (None, false) => vec![
                ParamFault::new("", "neither `task` nor `files` is given")
                    .help("write `task: geneval`, or `files: {train: prompts.txt}`"),
            ],
            (task, _) if params.mix.is_some() && task != Some(World::Mix) => {
                vec![ParamFault::new("mix", "`mix` goes with `task: mix` alone")]
            }
            (Some(_), false) if params.train == 0 && params.validation == 0 && params.test == 0 => {
                vec![ParamFault::new("train", "all three sets are empty")]
            }
            _ => Vec::new(),
        }
    }

    fn assets(&self, params: &Params, folder: &Path) -> Result<Vec<Asset>, ParamFault> {
        let mut assets = Vec::new();
        for (name, file) in params.files.each() {
            if let Some(file) = file {
                let path = folder.join(file);
                let digest = Digest::of_file(&path).map_err(|e| {
                    ParamFault::new(format!("files.{name}"), e.to_string())
                        .help("paths are relative to the recipe's folder")
                })?;
                assets.push(Asset { name: format!("prompts.{name}"), digest });
            }
        }
        Ok(assets)
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        if let Some(task) = params.task {
            let mix = match task {
                World::Geneval => Mix::from(Family::Geneval),
                World::Ocr => Mix::from(Family::Ocr),
                World::Scene => Mix::from(Family::Scene),
                World::Mix => params.mix.as_deref().map_or(Ok(Mix::all()), str::parse)?,
            };
            let sets = [
                ("train", params.train, Split::Train),
                ("validation", params.validation, Split::Validation),
                ("test", params.test, Split::Test),
            ];
            for (port, count, split) in sets {
                if count > 0 {
                    let records: Vec<Record> = opdflow_world::prompts(&mix, count, params.seed, split)
                        .into_iter()
                        .map(|p| Record { text: p.text, target: p.target, geneval: p.geneval })
                        .collect();
                    record::write(&context.output(port), &records)?;
                }
            }
            return Ok(());
        }
        for (port, file) in params.files.each() {
            if let Some(file) = file {
                let path = context.job().folder.join(file);
                let records = record::read(&path)?;
                record::write(&context.output(port), &records)?;
                if planned(context, port).is_some_and(|d| Digest::of_file(&path).ok() != Some(d)) {
                    return Err(Fault::user(format!("{} changed while the recipe ran", path.display()))
                        .help("run it again")
                        .into());
                }
            }
        }
        Ok(())
    }
}

/// The digest that the key was made with.
fn planned(context: &StageContext, set: &str) -> Option<Digest> {
    context.job().manifest.get("assets")?.get(format!("prompts.{set}"))?.as_str()?.parse().ok()
}
