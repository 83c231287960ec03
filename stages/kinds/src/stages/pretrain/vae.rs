//! `pretrain_vae`: an autoencoder of the miniature world.

use super::{Pretraining, layout_assets};
use crate::precision::Precision;
use crate::{code, param};
use anyhow::Result;
use opdflow_api::cache::Memo;
use opdflow_api::port::Output;
use opdflow_api::warning::Doubt;
use opdflow_api::{Asset, Code, Description, Environment, Foreseen, ParamFault, Ports, Resources, Stage, Work};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The stage kind.
pub struct PretrainVae;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// Configuration files: `bundled:mini` or a folder in diffusers layout.
    #[schemars(length(min = 1))]
    pub layout: String,
    /// How it is trained.
    pub training: Pretraining,
    /// Weight of the absolute error beside the squared one.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub l1: f64,
    /// Weight of the KL divergence of the latents from a standard normal, mean over a latent's elements.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub kl: f64,
    #[schemars(with = "param::Threads")]
    pub threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { layout: "bundled:mini".to_owned(), training: Pretraining::default(), l1: 0.1, kl: 3e-4, threads: 1 }
    }
}

impl Stage for PretrainVae {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "pretrain_vae",
            semantics: 1,
            about: "Trains an autoencoder on the miniature world from scratch: squared and absolute error plus a small KL term.",
            inputs: &[],
            outputs: const {
                &[Output::new("vae", "vae", "folder with `config.json` (scale and shift measured) and weights")
                    .result()]
            },
            outside_key: &["layout", "threads"],
            seeded: true,
            numeric: true,
        }
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("pretrain_vae", &[code::MODEL, code::TRAINING, &["miniature.prompts"]])
    }

    /// Not counted; that it is there says that its parameters and its layout tell its size.
    fn work(&self, _params: &Params, _folder: &Path, _inputs: &Foreseen) -> Option<Work> {
        Some(Work::default())
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        params.training.fault().into_iter().collect()
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
