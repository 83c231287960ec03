//! `pretrain_base`: text encoders and transformer of the miniature by flow matching.

use super::{Pretraining, Wrong, layout_assets};
use crate::precision::Precision;
use crate::{code, param};
use anyhow::Result;
use opdflow_api::cache::Memo;
use opdflow_api::port::{Input, Output};
use opdflow_api::warning::Doubt;
use opdflow_api::{Asset, Code, Description, Environment, Foreseen, ParamFault, Ports, Resources, Stage, Work};
use opdflow_miniature::Mix;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The stage kind.
pub struct PretrainBase;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// Configuration files and tokenizers: `bundled:mini` or a folder in diffusers layout.
    #[schemars(length(min = 1))]
    pub layout: String,
    /// How it is trained.
    pub training: Pretraining,
    /// Families of the world with weights, such as `geneval:2,ocr:2,scene:1`.
    pub mix: String,
    /// How often an image shows something other than its caption says, by family.
    pub wrong: Wrong,
    /// Share of captions replaced by the empty one, for guidance.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_caption: f64,
    #[schemars(with = "param::Threads")]
    pub threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            layout: "bundled:mini".to_owned(),
            training: Pretraining::default(),
            mix: "geneval,ocr,scene".to_owned(),
            wrong: Wrong::default(),
            drop_caption: 0.1,
            threads: 1,
        }
    }
}

impl Stage for PretrainBase {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "pretrain_base",
            semantics: 1,
            about: "Trains text encoders and transformer together by flow matching on the miniature world, with a share of captions wrong, so that the model knows every kind of image and follows prompts unreliably.",
            inputs: const {
                &[
                    Input::one("vae", &["vae"], "the autoencoder"),
                    Input::optional(
                        "start",
                        &["model"],
                        "a model of the same layout to go on from; a fresh one if absent",
                    ),
                ]
            },
            outputs: const { &[Output::new("model", "model", "a model folder in diffusers layout, f16").result()] },
            outside_key: &["layout", "threads"],
            seeded: true,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mix = params.mix.parse::<Mix>().err().map(|e| ParamFault::new("mix", e.to_string()));
        mix.into_iter().chain(params.training.fault()).collect()
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("pretrain_base", &[code::MODEL, code::TRAINING, &["miniature.prompts"]])
    }

    /// Not counted; that it is there says that its parameters and its layout tell its size.
    fn work(&self, _params: &Params, _folder: &Path, _inputs: &Foreseen) -> Option<Work> {
        Some(Work::default())
    }

    fn assets(&self, params: &Params, folder: &Path, _memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        layout_assets(&params.layout, folder)
    }

    fn doubts(&self, params: &Params, _folder: &Path, _inputs: &Foreseen) -> Vec<Doubt> {
        params.training.doubts()
    }

    fn environment(&self, _params: &Params) -> Environment {
        Precision::default().environment()
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true, several: false }
    }
}
