//! Rewards by name, as recipes spell them: `reward: {ocr: 1.0, looks: 0.5}`.

use crate::record::Record;
use anyhow::Result;
use opdflow_rewards::{Geneval, Looks, Ocr, Part, Reward, Weighted, ocr};
use opdflow_stage::cache::Digest;
use opdflow_stage::{Asset, Fault, ParamFault};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Rewards with their weights.
pub type Weights = BTreeMap<String, f64>;

/// The rewards that a recipe may use.
pub const NAMES: [&str; 3] = ["geneval", "looks", "ocr"];

/// Their parts, each a reward of its own under `reward.part`.
const PARTS: [&str; 7] = [
    "geneval.correct",
    "geneval.strict",
    "geneval.partial",
    "looks.colourfulness",
    "looks.contrast",
    "looks.smoothness",
    "ocr.exact",
];

/// Whether a recipe may name this reward or part.
#[must_use]
pub fn known(name: &str) -> bool {
    NAMES.contains(&name) || PARTS.contains(&name)
}

/// What a recipe may name, in words.
#[must_use]
pub fn offered() -> String {
    format!("there are {}, and their parts {}", NAMES.join(", "), PARTS.join(", "))
}

/// What is wrong with the names or weights below the parameter `param`.
#[must_use]
pub fn check(param: &str, weights: &Weights) -> Vec<ParamFault> {
    if weights.is_empty() {
        return vec![ParamFault::new(param, "no reward is given").help(offered())];
    }
    let mut faults = Vec::new();
    for (name, weight) in weights {
        if !known(name) {
            faults.push(
                ParamFault::new(format!("{param}.{name}"), format!("no reward is named `{name}`")).help(offered()),
            );
        }
        if !weight.is_finite() {
            faults
                .push(ParamFault::new(format!("{param}.{name}"), format!("the weight is {weight}, expected a number")));
        }
    }
    faults
}

/// Where the recogniser's files lie: `$OPDFLOW_DEPS`, or `.deps` beside the build folder of this program.
#[must_use]
pub fn deps() -> PathBuf {
    if let Some(folder) = std::env::var_os("OPDFLOW_DEPS") {
        return folder.into();
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let beside = exe.ancestors().skip(1).map(|a| a.join(".deps")).find(|d| d.is_dir());
    beside.unwrap_or_else(|| PathBuf::from(".deps"))
}

/// Files from outside the store that these rewards read. Their content is pinned, so the digest is that of the pin.
#[must_use]
pub fn assets<'a>(names: impl Iterator<Item = &'a String>) -> Vec<Asset> {
    if names.into_iter().any(|n| n.starts_with("ocr")) {
        let pin = |name: &str, sha256: &str| Asset { name: name.to_owned(), digest: Digest::of(sha256.as_bytes()) };
        vec![pin("ppocr.det", ocr::DET_SHA256), pin("ppocr.rec", ocr::REC_SHA256)]
    } else {
        Vec::new()
    }
}

/// One reward.
///
/// # Errors
/// Its files are missing.
pub fn one(name: &str) -> Result<Box<dyn Reward>> {
    if let Some((whole, part)) = name.split_once('.') {
        return Ok(Box::new(Part::new(one(whole)?, part)));
    }
    Ok(match name {
        "geneval" => {
            Box::new(Geneval::new(opdflow_rewards::detector::Shapes, opdflow_rewards::geneval::Quirks::default()))
        }
        "looks" => Box::new(Looks),
        "ocr" => {
            let assets = ocr::Assets::in_folder(&deps());
            Box::new(Ocr::load(&assets).map_err(|e| Fault::user(e.to_string()))?)
        }
        other => return Err(Fault::user(format!("no reward is named `{other}`")).into()),
    })
}

/// Whether the reward can judge pictures of these prompts at all.
///
/// # Errors
/// The first prompt that it cannot.
pub fn judges(reward: &dyn Reward, records: &[Record]) -> Result<()> {
    match records.iter().find_map(|r| reward.refuses(&r.subject())) {
        None => Ok(()),
        Some(why) => Err(Fault::user(format!("the reward `{}` cannot judge these prompts: {why}", reward.name()))
            .help("use prompts about what it can find; docs/sd35.md says which detectors there are")
            .into()),
    }
}

/// The weighted sum of several.
///
/// # Errors
/// As for [`one`].
pub fn weighted(weights: &Weights) -> Result<Weighted> {
    let parts = weights.iter().map(|(name, weight)| Ok((*weight, one(name)?))).collect::<Result<Vec<_>>>()?;
    Weighted::new(parts).map_err(|e| Fault::user(e.to_string()).into())
}
