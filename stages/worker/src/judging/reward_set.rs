//! The rewards that a stage may ask: those of the program, and the reward models on its port `reward_models`.

use crate::artefacts::json;
use crate::judging::asking::Asking;
use crate::judging::dealt::Dealing;
use crate::judging::score;
use crate::runtime::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::judging::recogniser;
use opdflow_kinds::judging::reward::Weights;
use opdflow_kinds::judging::reward_models::REWARD_MODELS;
use opdflow_kinds::prompt::record::Record;
use opdflow_kinds::stages::reward_model::OCR;
use opdflow_ranks::Ranks;
use opdflow_rewards::ocr;
use opdflow_rewards::{Geneval, Looks, Ocr, Reward, RewardPart, Weighted};
use opdflow_served::Answers;
use opdflow_training::teacher::Canvas;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::Device;

/// What the file of a reward model without networks is called, and what it says.
pub const BUNDLED: (&str, &str) = ("bundled", "shapes\n");

/// The file beside the parts of `ocr` that says how text is found and read.
pub const READER: &str = "reader.json";

/// Rewards, ready to judge.
pub struct RewardSet {
    reward_models: BTreeMap<String, Arc<dyn Reward>>,
    device: Device,
    ranks: Ranks,
    answers: Arc<Answers>,
}

impl RewardSet {
    /// Opens all reward models that are connected, on the device of `canvas`, whose processes share the images.
    ///
    /// # Errors
    /// A reward model under another name than its own; one that does not open.
    pub fn connected(context: &StageContext, canvas: Canvas, asking: &Asking) -> Result<Self> {
        let Canvas { device, ranks, .. } = canvas;
        let open = |name: String| -> Result<(String, Arc<dyn Reward>)> {
            let (reward_model, _) = open_connected(context, REWARD_MODELS.name, &name, (device, asking))?;
            Ok((name, Arc::from(reward_model)))
        };
        let reward_models = context.names(REWARD_MODELS.name).into_iter().map(open).collect::<Result<_>>()?;
        Ok(Self { reward_models, device, ranks, answers: asking.answers().clone() })
    }

    /// One reward, or one measure of it.
    ///
    /// # Errors
    /// Its files are missing, or it is a network and not connected.
    pub fn one(&self, name: &str) -> Result<Box<dyn Reward>> {
        if let Some((whole, measure)) = name.split_once('.') {
            return Ok(Box::new(RewardPart::new(self.one(whole)?, measure)));
        }
        self.whole(name)
    }

    /// How the scores of one process come to all.
    #[must_use]
    pub fn dealing(&self) -> Dealing {
        Dealing::new(self.ranks, self.device).with(&self.answers)
    }

    /// Whether something is connected that judges by this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.reward_models.contains_key(name)
    }

    fn whole(&self, name: &str) -> Result<Box<dyn Reward>> {
        if let Some(reward_model) = self.reward_models.get(name) {
            return Ok(Box::new(Arc::clone(reward_model)));
        }
        rule(name)?.ok_or_else(|| {
            let fault = Fault::user(format!("nothing on the port `reward_models` judges by `{name}`"));
            fault.help(format!("connect a `reward_model` with `reward: {name}`")).into()
        })
    }

    /// The weighted sum of several.
    ///
    /// # Errors
    /// As for [`RewardSet::one`].
    pub fn weighted(&self, weights: &Weights) -> Result<Weighted> {
        let parts = weights.iter().map(|(name, weight)| Ok((*weight, self.one(name)?))).collect::<Result<Vec<_>>>()?;
        Weighted::new(parts).map_err(score::fault)
    }
}

/// The rule of the program with this name, if it is one.
///
/// # Errors
/// What it reads with is not there.
pub fn rule(name: &str) -> Result<Option<Box<dyn Reward>>> {
    Ok(Some(match name {
        "geneval" => Box::new(Geneval::default()),
        "looks" => Box::new(Looks),
        "ocr" => Box::new(Ocr::shared(&recogniser::assets()).map_err(score::fault)?),
        _ => return Ok(None),
    }))
}

/// Opens the reward model that is connected to a port under this name, and gives the folder of its parts too.
///
/// # Errors
/// It judges by another reward than that of its name; it does not open.
pub fn open_connected(
    context: &StageContext,
    port: &str,
    name: &str,
    (device, asking): (Device, &Asking),
) -> Result<(Box<dyn Reward>, PathBuf)> {
    let folder = context.input(&format!("{port}.{name}"))?.join(name);
    if !folder.is_dir() {
        let fault = Fault::user(format!("the reward model connected as `{port}.{name}` judges by another reward"));
        return Err(fault.help("connect it under the name of its reward").into());
    }
    if let Some(served) = asking.open(&folder)? {
        return Ok((served, folder));
    }
    let reward_model = open(name, &folder, device).with_context(|| format!("the reward model `{name}`"))?;
    Ok((reward_model, folder))
}

/// Opens the reward model of this name from the folder of its parts.
///
/// # Errors
/// A part is missing or damaged: the user's fault.
pub fn open(name: &str, folder: &Path, device: Device) -> Result<Box<dyn Reward>> {
    if name == "geneval" && folder.join("detector").join(BUNDLED.0).is_file() {
        return Ok(Box::new(Geneval::default()));
    }
    if name == OCR {
        return reader(folder);
    }
    opdflow_reward_models::open(name, folder, device).map_err(|e| unfit(&e).into())
}

/// The reader of text in a folder of its parts.
fn reader(folder: &Path) -> Result<Box<dyn Reward>> {
    let only = |part: &str| -> Result<Option<PathBuf>> {
        let at = folder.join(part);
        if !at.is_dir() {
            return Ok(None);
        }
        let entries = std::fs::read_dir(&at).with_context(|| at.display().to_string())?;
        Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).min())
    };
    let needed = |part: &str| only(part)?.with_context(|| format!("the part `{part}` of `ocr` is missing"));
    let files = ocr::Files { det: needed("det")?, rec: needed("rec")?, characters: only("characters")? };
    let config: ocr::ReaderConfig = json::read(&folder.join(READER), "the reader's settings")?;
    let read = Ocr::of_files(&recogniser::assets(), &files, config.reading()).map_err(score::fault)?;
    Ok(Box::new(read))
}

/// Whether the reward can judge images of these prompts at all.
///
/// # Errors
/// The first prompt that it cannot.
pub fn judges(reward: &dyn Reward, records: &[Record]) -> Result<()> {
    let lacks = |r: &&Record| !reward.applies(&r.subject());
    if let Some(record) = records.iter().find(lacks) {
        let what = format!("the reward `{}` cannot judge the prompt {:?}", reward.name(), record.text);
        return Err(Fault::user(what).help("give it prompts with what it reads (docs/reference/rewards.md)").into());
    }
    match records.iter().find_map(|r| reward.refuses(&r.subject())) {
        None => Ok(()),
        Some(why) => Err(Fault::user(format!("the reward `{}` cannot judge these prompts: {why}", reward.name()))
            .help("use prompts about what it can find, or another detector (docs/reference/rewards.md)")
            .into()),
    }
}
