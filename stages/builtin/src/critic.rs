//! `critic`: a network that judges pictures, of the user's own files.

use crate::critic_folder::Files;
use crate::folder::listing_digest;
use crate::{code, critic_folder, jury, outside, reward};
use anyhow::{Context as _, Result};
use opdflow_critics::{CRITICS, Critic as Kind};
use opdflow_miniature::Shape;
use opdflow_stage::cache::{Digest, Memo, TreeEntry};
use opdflow_stage::port::Output;
use opdflow_stage::{Asset, Code, Description, Fault, Foreseen, ParamFault, Ports, Stage, StageContext, Work};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Device;

/// The stage kind.
pub struct Critic;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Which reward it is: docs/rewards.md has the list.
    reward: String,
    /// Its parts by name, each a folder as published or one file, relative to the recipe; the key holds their content, not
    /// their paths. `{detector: "bundled:shapes"}` for the miniature's own `geneval`.
    files: BTreeMap<String, String>,
}

/// In the place of a detector's folder: that of the miniature's shapes, which needs no files.
const SHAPES: &str = "bundled:shapes";

impl Params {
    fn kind(&self) -> Option<&'static Kind> {
        opdflow_critics::named(&self.reward)
    }

    /// Whether this is the miniature's own judge of GenEval.
    fn bundled(&self) -> bool {
        self.reward == "geneval" && self.files.get("detector").is_some_and(|f| f == SHAPES)
    }

    /// The files of each part: the path in the critic's folder, and where it lies now.
    fn parts<'a>(&'a self, folder: &Path) -> BTreeMap<&'a str, Result<Files, Vec<String>>> {
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
            jury::Known { reward: params.reward.clone(), bytes: None, classes: Some(shapes) }
        } else {
            let bytes = parts().map(|files| critic_folder::bytes(&files.ok()?)).sum::<Option<u64>>();
            let detector = params.files.get("detector").filter(|_| params.reward == "geneval");
            let classes = detector.and_then(|path| opdflow_critics::geneval::classes(&folder.join(path)).ok());
            jury::Known { reward: params.reward.clone(), bytes, classes }
        };
        serde_json::to_value(known).ok().map(|known| ("critic".to_owned(), known)).into_iter().collect()
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        if params.bundled() {
            let folder = context.output("critic").join(&params.reward).join("detector");
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            return std::fs::write(folder.join(jury::BUNDLED.0), jury::BUNDLED.1).context("writing the critic");
        }
        let folder = context.job().folder.clone();
        let mut files: BTreeMap<String, Files> = BTreeMap::new();
        for (part, found) in params.parts(&folder) {
            files.insert(part.to_owned(), found.map_err(|missing| Fault::user(missing.join("\n")))?);
        }
        try_out(&params.reward, &files)?;
        let listed: Vec<(String, PathBuf)> = files
            .iter()
            .flat_map(|(part, files)| {
                let root = Path::new(&params.reward).join(part);
                files.iter().map(move |(at, path)| (root.join(at).to_string_lossy().into_owned(), path.clone()))
            })
            .collect();
        let stored = context.adopt("critic", &listed)?;
        for part in files.keys() {
            let found = part_digest(&stored, &format!("{}/{part}/", params.reward));
            outside::expect(context, part, found, &folder.join(&params.files[part]))?;
        }
        Ok(())
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

/// Digest of a part as it lies in the store, the same as that of its files where they lay before.
fn part_digest(stored: &[TreeEntry], root: &str) -> Digest {
    listing_digest(stored.iter().filter_map(|e| Some((Path::new(e.path.strip_prefix(root)?), e.digest))))
}

/// Opens the critic where its files lie, so that a fault is found before anything is kept.
fn try_out(name: &str, files: &BTreeMap<String, Files>) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder to lay the parts out in")?;
    for (part, files) in files {
        for (at, path) in files {
            let link = folder.path().join(part).join(at);
            let parent = link.parent().unwrap_or(folder.path());
            std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
            let path = path.canonicalize().with_context(|| path.display().to_string())?;
            std::os::unix::fs::symlink(&path, &link).with_context(|| link.display().to_string())?;
        }
    }
    jury::open(name, folder.path(), Device::Cpu).map(drop)
}
