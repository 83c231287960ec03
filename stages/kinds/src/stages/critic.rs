//! `critic`: a network that judges pictures, of the user's own files.

use crate::code;
use crate::judging::{critics, reward};
use crate::model::critic_folder;
use crate::model::critic_folder::Files;
use crate::model::folder::listing_digest;
use anyhow::Result;
use opdflow_api::cache::{Digest, Memo};
use opdflow_api::port::Output;
use opdflow_api::{Asset, Code, Description, Foreseen, ParamFault, Ports, Stage, Work};
use opdflow_miniature::Shape;
use opdflow_spec::critics::{CRITICS, Critic as Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The stage kind.
pub struct Critic;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// Which reward it is: docs/reference/rewards.md has the list.
    pub reward: String,
    /// Its parts by name, each a folder as published or one file, relative to the recipe; the key holds their content, not
    /// their paths. `{detector: "bundled:shapes"}` for the miniature's own `geneval`.
    pub files: BTreeMap<String, String>,
}

/// In the place of a detector's folder: that of the miniature's shapes, which needs no files.
const SHAPES: &str = "bundled:shapes";

impl Params {
    fn kind(&self) -> Option<&'static Kind> {
        opdflow_spec::critics::named(&self.reward)
    }

    /// Whether this is the miniature's own judge of GenEval.
    pub fn bundled(&self) -> bool {
        self.reward == "geneval" && self.files.get("detector").is_some_and(|f| f == SHAPES)
    }

    /// The files of each part: the path in the critic's folder, and where it lies now.
    pub fn parts<'a>(&'a self, folder: &Path) -> BTreeMap<&'a str, Result<Files, Vec<String>>> {
        let weighty =
            |part: &str| self.kind().and_then(|k| k.parts.iter().find(|p| p.name == part)).is_some_and(|p| p.weights);
        let one = |(part, path): (&'a String, &String)| {
            (part.as_str(), critic_folder::files(&folder.join(path), weighty(part)))
        };
        self.files.iter().map(one).collect()
    }
}

impl Stage for Critic {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "critic",
            semantics: 1,
            about: "Takes in a network that judges pictures, for the port `critics` of the stages that train, choose and evaluate by it.",
            inputs: &[],
            outputs: const { &[Output::new("critic", "critic", "the network, opened once to see that it is whole")] },
            outside_key: &["files"],
            seeded: false,
            numeric: false,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let Some(kind) = params.kind() else {
            let names: Vec<&str> = CRITICS.iter().map(|c| c.name).collect();
            let what = if reward::NAMES.contains(&params.reward.as_str()) {
                format!("`{}` needs no network", params.reward)
            } else {
                format!("no reward is named `{}`", params.reward)
            };
            return vec![ParamFault::new("reward", what).help(format!("networks judge by {}", names.join(", ")))];
        };
        if params.bundled() { Vec::new() } else { parts_that_differ(kind, params) }
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("critic", &[&["critics.common", "flow.layers", "stages.files"]])
    }

    /// Bytes, for that is what it moves.
    fn work(&self, params: &Params, folder: &Path, _inputs: &Foreseen) -> Option<Work> {
        if params.bundled() {
            return None;
        }
        let files = params.parts(folder).into_values().map(Result::ok).collect::<Option<Vec<_>>>()?;
        let bytes = files.iter().flatten().map(|(_, path)| Some(std::fs::metadata(path).ok()?.len()));
        let bytes = bytes.sum::<Option<u64>>()?;
        Some(Work { operations: bytes as f64, bytes: Some(bytes) })
    }

    fn assets(&self, params: &Params, folder: &Path, memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        if params.bundled() {
            return Ok(vec![Asset { name: "detector".to_owned(), digest: Digest::of(SHAPES.as_bytes()) }]);
        }
        let (mut assets, mut faults) = (Vec::new(), Vec::new());
        for (part, files) in params.parts(folder) {
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
            critics::Known { reward: params.reward.clone(), bytes: None, classes: Some(shapes) }
        } else {
            let bytes = parts().map(|files| critic_folder::bytes(&files.ok()?)).sum::<Option<u64>>();
            let detector = params.files.get("detector").filter(|_| params.reward == "geneval");
            let classes = detector.and_then(|path| opdflow_spec::critics::geneval::classes(&folder.join(path)).ok());
            critics::Known { reward: params.reward.clone(), bytes, classes }
        };
        serde_json::to_value(known).ok().map(|known| ("critic".to_owned(), known)).into_iter().collect()
    }
}

/// Parts that the critic does not have, and those that it lacks.
fn parts_that_differ(kind: &Kind, params: &Params) -> Vec<ParamFault> {
    let names: Vec<&str> = kind.parts.iter().map(|p| p.name).collect();
    let unknown = params.files.keys().filter(|f| !names.contains(&f.as_str())).map(|f| {
        ParamFault::new(format!("files.{f}"), format!("`{}` has no part `{f}`", kind.name))
            .help(format!("its parts are {}", names.join(", ")))
    });
    let lacking = kind.parts.iter().filter(|p| !params.files.contains_key(p.name)).map(|p| {
        ParamFault::new("files", format!("the part `{}` of `{}` is missing", p.name, kind.name))
            .help(format!("`{}` is {}", p.name, p.about))
    });
    unknown.chain(lacking).collect()
}

/// The fault of a part whose files are not as they should be.
fn fault(params: &Params, part: &str, what: String) -> ParamFault {
    let parts = params.kind().map_or(&[][..], |k| k.parts);
    let about = parts.iter().find(|p| p.name == part).map_or("", |p| p.about);
    ParamFault::new(format!("files.{part}"), what).help(format!("expected, relative to the recipe: {about}"))
}
