//! `pretrain_reward_model`: the miniature's own networks that judge images.

use super::Pretraining;
use crate::judging::{reward, reward_models};
use crate::model::sampling::ImageSampling;
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
pub struct PretrainRewardModel;

/// The reward models that can be trained here.
pub const TRAINABLE: [&str; 6] = ["aesthetic", "clipscore", "hpsv2", "imagereward", "niqe", "pickscore"];

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// Which reward it will be: `clipscore` by contrast of images and captions, `pickscore`, `hpsv2` and `imagereward` by pairs
    /// of images of one prompt, `aesthetic` by marks, as a head on the embedding of `start` or, without it, together with the tower
    /// that sees. `niqe` learns nothing: it is the statistics of drawn images.
    pub reward: String,
    /// The tokenizer: `bundled:mini` or a folder in diffusers layout, of which `tokenizer` is taken.
    #[schemars(length(min = 1))]
    pub layout: String,
    /// Sizes of the network.
    pub network: Network,
    /// How it is trained; `images` is the number of prompts, of which each visit draws a new image.
    pub training: Pretraining,
    /// Families of the world with weights, such as `geneval:2,ocr:2,scene:1`.
    pub mix: String,
    /// What makes one image better than another for a prompt.
    pub pairs: Pairs,
    /// Images of the model on `base`, beside those that are drawn.
    pub samples: Samples,
    /// Pairs of each kind of the held-out prompts.
    #[schemars(range(min = 1, max = 100_000))]
    pub held_out: usize,
    #[schemars(with = "param::Threads")]
    pub threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            reward: "clipscore".to_owned(),
            layout: "bundled:mini".to_owned(),
            network: Network::default(),
            training: Pretraining::default(),
            mix: "geneval,ocr,scene".to_owned(),
            pairs: Pairs::default(),
            samples: Samples::default(),
            held_out: 512,
            threads: 1,
        }
    }
}

/// A CLIP's sizes; images are the miniature's, 64 by 64 pixels.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// The tower that sees.
    pub vision: Tower,
    /// The tower that reads.
    pub text: Tower,
    /// Side of a patch, in pixels.
    #[schemars(range(min = 1, max = 64))]
    pub patch_size: i64,
    /// Width of the embeddings.
    #[schemars(range(min = 1, max = 4096))]
    pub projection_dim: i64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            vision: Tower { hidden_size: 128, num_hidden_layers: 3, num_attention_heads: 4 },
            text: Tower { hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2 },
            patch_size: 16,
            projection_dim: 64,
        }
    }
}

/// One tower; its feed-forward part is four times as wide.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tower {
    /// Width.
    #[schemars(range(min = 1, max = 4096))]
    pub hidden_size: i64,
    /// Layers.
    #[schemars(range(min = 1, max = 64))]
    pub num_hidden_layers: i64,
    /// Heads; they share the width evenly.
    #[schemars(range(min = 1, max = 64))]
    pub num_attention_heads: i64,
}

/// What makes an image better: `fits` times how well it fits its prompt (1, all right; a half, one thing wrong; 0, another
/// image) plus `looks` times the reward `looks` of it. The first of two is preferred with the probability
/// `sigmoid(difference / temperature)`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pairs {
    /// Weight of the prompt.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub fits: f64,
    /// Weight of the looks.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub looks: f64,
    /// How sure the preferences are.
    #[schemars(range(max = 100.0), extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
}

impl Default for Pairs {
    fn default() -> Self {
        Self { fits: 1.0, looks: 1.0, temperature: 0.15 }
    }
}

/// Images of a model.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Samples {
    /// Training prompts of which images are made.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub prompts: usize,
    /// Held-out prompts of which images are made.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub held_out: usize,
    /// Images of each prompt.
    #[schemars(range(min = 1, max = 1000))]
    pub of_each: usize,
    /// How they are made.
    pub sampling: ImageSampling,
}

impl Default for Samples {
    fn default() -> Self {
        let sampling = ImageSampling { num_inference_steps: 10, ..ImageSampling::default() };
        Self { prompts: 1024, held_out: 256, of_each: 2, sampling }
    }
}

impl Stage for PretrainRewardModel {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "pretrain_reward_model",
            semantics: 1,
            about: "Trains a small reward model of a published kind on the miniature world, and says of how many held-out pairs it prefers the right image.",
            inputs: const {
                &[
                    Input::optional(
                        "base",
                        &["model"],
                        "a model whose images it will judge; without it all images are drawn",
                    ),
                    Input::optional(
                        "start",
                        &["reward_model"],
                        "a `clipscore` of the same sizes to go on from; `aesthetic` sees with it as it is",
                    ),
                ]
            },
            outputs: const {
                &[
                    Output::new(
                        "reward_model",
                        "reward_model",
                        "the network, in the folders of the published one, f16",
                    )
                    .result(),
                    Output::new("accuracy", "json", "share of held-out pairs of each kind that it orders right")
                        .result()
                        .file("json"),
                ]
            },
            outside_key: &["layout", "threads"],
            seeded: true,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let named = (!TRAINABLE.contains(&params.reward.as_str())).then(|| {
            ParamFault::new("reward", format!("no reward model `{}` can be trained here", params.reward))
                .help(format!("there are {}", TRAINABLE.join(", ")))
        });
        let mix = params.mix.parse::<Mix>().err().map(|e| ParamFault::new("mix", e.to_string()));
        let uneven = |name: &str, tower: &Tower| {
            let (width, heads) = (tower.hidden_size, tower.num_attention_heads);
            (heads > 0 && width % heads != 0).then(|| {
                ParamFault::new(
                    format!("network.{name}.hidden_size"),
                    format!("{width} is not a multiple of {heads} heads"),
                )
            })
        };
        let towers = [("vision", &params.network.vision), ("text", &params.network.text)];
        let uneven = towers.into_iter().filter_map(|(name, tower)| uneven(name, tower));
        named.into_iter().chain(mix).chain(uneven).chain(params.training.fault()).collect()
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        match (params.reward.as_str(), ports.contains("start")) {
            (reward @ ("imagereward" | "niqe"), true) => {
                let what = format!("`{reward}` has another network than `clipscore`, and cannot go on from it");
                vec![ParamFault::new("reward", what).help("take `start` out")]
            }
            _ => Vec::new(),
        }
    }

    fn code(&self, _params: &Params, ports: &Ports) -> Code {
        let judging = code::judging(["geneval", "looks", "ocr"], ports);
        let networks = TRAINABLE.map(code::reward_model).concat();
        code::of("pretrain_reward_model", &[code::MODEL, code::TRAINING, &["miniature.prompts"], &judging, &networks])
    }

    /// Not counted; that it is there says that its parameters and its layout tell its size.
    fn work(&self, _params: &Params, _folder: &Path, _inputs: &Foreseen) -> Option<Work> {
        Some(Work::default())
    }

    fn foresee(&self, params: &Params, _folder: &Path, _inputs: &Foreseen) -> Foreseen {
        let known = reward_models::Known { reward: params.reward.clone(), bytes: None, classes: None, served: None };
        serde_json::to_value(known).ok().map(|known| ("reward_model".to_owned(), known)).into_iter().collect()
    }

    fn lacks(&self, _params: &Params, ports: &Ports) -> Vec<ParamFault> {
        // Words in a model's images are read.
        ports.contains("base").then(|| reward::lacks("samples", "ocr")).flatten().into_iter().collect()
    }

    fn assets(&self, params: &Params, folder: &Path, _memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        let mut assets = super::layout_assets(&params.layout, folder)?;
        assets.extend(reward::all_assets());
        Ok(assets)
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
