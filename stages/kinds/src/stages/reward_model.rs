//! `reward_model`: a network that judges images, of the user's own files.

use crate::code;
use crate::judging::{recogniser, reward, reward_models};
use crate::model::bundle;
use crate::model::bundle::PartFiles;
use crate::model::folder::listing_digest;
use crate::model::reward_model_folder;
use crate::model::reward_model_folder::Files;
use anyhow::Result;
use opdflow_api::cache::{Digest, Memo};
use opdflow_api::port::Output;
use opdflow_api::{Asset, Code, Description, Foreseen, ParamFault, Ports, Stage, Work};
use opdflow_miniature::Shape;
use opdflow_rewards::ocr::ReaderConfig;
use opdflow_spec::reward_models::{REWARD_MODELS, RewardModel as Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The stage kind.
pub struct RewardModel;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// Which reward it is: docs/reference/rewards.md has the list.
    pub reward: String,
    /// Its parts by name, each a folder as published or one file, relative to the recipe; the key holds their content, not
    /// their paths. `{detector: "bundled:shapes"}` for the miniature's own `geneval`, `bundled:mini` in the place of each part
    /// for its own `pickscore`, `clipscore`, `hpsv2` and `imagereward`, and `bundled:mini-heldout` for a second `clipscore`.
    /// Of `ocr`, `bundled:ppocr_v4_ch` for the finder or the reader that is fetched with the program.
    pub files: BTreeMap<String, String>,
    /// Of `ocr`: how text is found and read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<ReaderConfig>,
}

/// The reward whose networks read text.
pub const OCR: &str = "ocr";

/// In the place of a detector's folder: that of the miniature's shapes, which needs no files.
const SHAPES: &str = "bundled:shapes";

/// In the place of a text finder or reader: the one that `scripts/setup.sh` fetches.
const FETCHED: &str = "bundled:ppocr_v4_ch";

impl Params {
    fn kind(&self) -> Option<&'static Kind> {
        opdflow_spec::reward_models::named(&self.reward)
    }

    /// Whether this is the miniature's own judge of GenEval.
    pub fn bundled(&self) -> bool {
        self.reward == "geneval" && self.files.get("detector").is_some_and(|f| f == SHAPES)
    }

    /// The files of each part: the path in the reward model's folder, and where it lies now.
    pub fn parts<'a>(&'a self, folder: &Path) -> BTreeMap<&'a str, Result<Files, Vec<String>>> {
        let weighty =
            |part: &str| self.kind().and_then(|k| k.parts.iter().find(|p| p.name == part)).is_some_and(|p| p.weights);
        let one = |(part, path): (&'a String, &String)| {
            let found = match self.fetched(part) {
                Some((name, path, _)) => Ok(vec![(name.into(), path)]),
                None => reward_model_folder::files(&folder.join(path), weighty(part)),
            };
            (part.as_str(), found)
        };
        self.files.iter().filter(|(_, path)| !is_bundled(path)).map(one).collect()
    }

    /// A part that is one of the fetched networks that read text.
    fn fetched(&self, part: &str) -> Option<(&'static str, PathBuf, Digest)> {
        let named = self.reward == OCR && self.files.get(part).is_some_and(|f| f == FETCHED);
        recogniser::fetched(part).filter(|_| named)
    }

    /// The parts that the program has itself, with their files.
    pub fn bundled_parts(&self) -> BTreeMap<&str, PartFiles> {
        let own = self.files.iter().filter(|(_, path)| is_bundled(path));
        own.map(|(part, source)| (part.as_str(), bundle::judge_part(source, &self.reward, part))).collect()
    }
}

/// Whether a part is inside the program.
fn is_bundled(path: &str) -> bool {
    path.starts_with("bundled:") && path != FETCHED
}

/// Bytes that the weights of a bundled part take in f32: they are kept as f16.
fn bundled_bytes(files: &PartFiles) -> u64 {
    let weights = files.iter().filter(|(path, _)| path.ends_with(".safetensors"));
    weights.map(|(_, bytes)| 2 * bytes.len() as u64).sum()
}

impl Stage for RewardModel {
    type Params = Params;

    fn formerly(&self) -> &'static [&'static str] {
        &["critic"]
    }

    fn describe(&self) -> Description {
        Description {
            kind: "reward_model",
            semantics: 1,
            about: "Reads a reward model from its files, for the port `reward_models` of the stages that train, choose and evaluate with it.",
            inputs: &[],
            outputs: const {
                &[Output::new("reward_model", "reward_model", "the network, which was opened once as a check")
                    .formerly(&["critic"])]
            },
            outside_key: &["files"],
            seeded: false,
            numeric: false,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let Some(kind) = params.kind() else {
            let names: Vec<&str> = REWARD_MODELS.iter().map(|c| c.name).collect();
            let what = if reward::rule(&params.reward).is_some() {
                format!("`{}` needs no network", params.reward)
            } else {
                format!("no reward is named `{}`", params.reward)
            };
            return vec![ParamFault::new("reward", what).help(format!("networks judge by {}", names.join(", ")))];
        };
        if params.bundled() {
            return Vec::new();
        }
        let absent = params.bundled_parts().into_iter().filter(|(_, files)| files.is_empty());
        let absent = absent.map(|(part, _)| not_bundled(params, part));
        let mut faults: Vec<ParamFault> = parts_that_differ(kind, params).into_iter().chain(absent).collect();
        if params.reader.is_some() && params.reward != OCR {
            let what = format!("`{}` reads no text", params.reward);
            faults.push(ParamFault::new("reader", what).help("leave it out: it is for `reward: ocr`"));
        }
        faults
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("reward_model", &[&["reward_models.common", "models.layers", "stages.files"]])
    }

    fn lacks(&self, params: &Params, _ports: &Ports) -> Vec<ParamFault> {
        let fetched = params.files.keys().find(|part| params.fetched(part).is_some());
        let fault = fetched.and_then(|part| reward::lacks(&format!("files.{part}"), OCR));
        fault.into_iter().collect()
    }

    /// Bytes, for that is what it moves.
    fn work(&self, params: &Params, folder: &Path, _inputs: &Foreseen) -> Option<Work> {
        if params.bundled() {
            return None;
        }
        let files = params.parts(folder).into_values().map(Result::ok).collect::<Option<Vec<_>>>()?;
        let bytes = files.iter().flatten().map(|(_, path)| Some(std::fs::metadata(path).ok()?.len()));
        let own: usize = params.bundled_parts().values().flatten().map(|(_, bytes)| bytes.len()).sum();
        let bytes = bytes.sum::<Option<u64>>()? + own as u64;
        Some(Work { operations: bytes as f64, bytes: Some(bytes) })
    }

    fn assets(&self, params: &Params, folder: &Path, memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        if params.bundled() {
            return Ok(vec![Asset { name: "detector".to_owned(), digest: Digest::of(SHAPES.as_bytes()) }]);
        }
        let own = params.bundled_parts().into_iter().map(|(part, files)| {
            let listed = files.iter().map(|(path, bytes)| (Path::new(*path), Digest::of(bytes)));
            Asset { name: part.to_owned(), digest: listing_digest(listed) }
        });
        let (mut assets, mut faults) = (own.collect::<Vec<_>>(), Vec::new());
        for (part, files) in params.parts(folder) {
            if let Some((name, _, digest)) = params.fetched(part) {
                let digest = listing_digest([(Path::new(name), digest)].into_iter());
                assets.push(Asset { name: part.to_owned(), digest });
                continue;
            }
            let listed = files.and_then(|files| {
                let one =
                    |(at, path): (PathBuf, PathBuf)| Ok((at, memo.digest(&path).map_err(|e| vec![e.to_string()])?));
                files.into_iter().map(one).collect::<Result<Vec<_>, _>>()
            });
            match listed {
                Ok(listed) => {
                    let digest = listing_digest(listed.iter().map(|(p, d)| (p.as_path(), *d)));
                    assets.push(Asset { name: part.to_owned(), digest });
                }
                Err(missing) => faults.extend(missing.into_iter().map(|m| fault(params, part, m))),
            }
        }
        if faults.is_empty() { Ok(assets) } else { Err(faults) }
    }

    fn foresee(&self, params: &Params, folder: &Path, _inputs: &Foreseen) -> Foreseen {
        let parts = || params.parts(folder).into_values();
        let known = if params.bundled() {
            let shapes = Shape::ALL.iter().map(|s| s.name().to_owned()).collect();
            reward_models::Known { reward: params.reward.clone(), bytes: None, classes: Some(shapes), served: None }
        } else {
            let own: u64 = params.bundled_parts().values().map(bundled_bytes).sum();
            let bytes = parts().map(|files| reward_model_folder::bytes(&files.ok()?)).sum::<Option<u64>>();
            let bytes = bytes.map(|bytes| bytes + own);
            let detector = params.files.get("detector").filter(|_| params.reward == "geneval");
            let classes =
                detector.and_then(|path| opdflow_spec::reward_models::geneval::classes(&folder.join(path)).ok());
            reward_models::Known { reward: params.reward.clone(), bytes, classes, served: None }
        };
        serde_json::to_value(known).ok().map(|known| ("reward_model".to_owned(), known)).into_iter().collect()
    }
}

/// Parts that the reward model does not have, and those that it lacks.
fn parts_that_differ(kind: &Kind, params: &Params) -> Vec<ParamFault> {
    let names: Vec<&str> = kind.parts.iter().map(|p| p.name).collect();
    let unknown = params.files.keys().filter(|f| !names.contains(&f.as_str())).map(|f| {
        ParamFault::new(format!("files.{f}"), format!("`{}` has no part `{f}`", kind.name))
            .help(format!("its parts are {}", names.join(", ")))
    });
    let lacking = kind.parts.iter().filter(|p| !p.optional && !params.files.contains_key(p.name)).map(|p| {
        ParamFault::new("files", format!("the part `{}` of `{}` is missing", p.name, kind.name))
            .help(format!("`{}` is {}", p.name, p.about))
    });
    unknown.chain(lacking).collect()
}

/// The fault of a part that the program does not have.
fn not_bundled(params: &Params, part: &str) -> ParamFault {
    let what = format!("the part `{part}` of `{}` is not bundled as `{}`", params.reward, params.files[part]);
    let there = |set: &&str| !bundle::judge_part(set, &params.reward, part).is_empty();
    let found: Vec<&str> = bundle::JUDGE_SETS.into_iter().filter(there).collect();
    let help = match (&found[..], params.reward.as_str()) {
        (_, "geneval") => format!("there is `{SHAPES}`, as the detector"),
        ([], _) => "give the folder or file of your own".to_owned(),
        (found, _) => format!("there is `{}`", found.join("`, `")),
    };
    ParamFault::new(format!("files.{part}"), what).help(help)
}

/// The fault of a part whose files are not as they should be.
fn fault(params: &Params, part: &str, what: String) -> ParamFault {
    let parts = params.kind().map_or(&[][..], |k| k.parts);
    let about = parts.iter().find(|p| p.name == part).map_or("", |p| p.about);
    ParamFault::new(format!("files.{part}"), what).help(format!("expected, relative to the recipe: {about}"))
}
