//! The rewards that a stage may ask: those of the program, and the critics on its port `critics`.

use crate::recogniser;
use crate::record::Record;
use crate::reward::Weights;
use crate::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_rewards::{Geneval, Looks, Ocr, Part, Reward, Weighted};
use opdflow_stage::port::Input;
use opdflow_stage::{Fault, Foreseen, Memory, ParamFault, StageContext};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tch::Device;

/// The port of the critics, on every kind that judges pictures.
pub const CRITICS: Input = Input::any(
    "critics",
    &["critic"],
    "networks that judge, each under the name of its reward; `geneval` here takes the place of the miniature's own",
);

/// What the file of a critic without networks is called, and what it says.
pub const BUNDLED: (&str, &str) = ("bundled", "shapes\n");

/// Rewards, ready to judge.
pub struct Jury {
    critics: BTreeMap<String, Arc<dyn Reward>>,
}

impl Jury {
    /// Opens all critics that are connected, on `device`.
    ///
    /// # Errors
    /// A critic under another name than its own; one that does not open.
    pub fn connected(context: &StageContext, device: Device) -> Result<Self> {
        let open = |name: String| {
            let folder = context.input(&format!("critics.{name}"))?.join(&name);
            if !folder.is_dir() {
                let fault = Fault::user(format!("the critic connected as `critics.{name}` judges by another reward"));
                return Err(fault.help("connect it under the name of its reward").into());
            }
            let critic = open(&name, &folder, device).with_context(|| format!("the critic `{name}`"))?;
            Ok((name, Arc::from(critic)))
        };
        Ok(Self { critics: context.names("critics").into_iter().map(open).collect::<Result<_>>()? })
    }

    /// One reward, or one measure of it.
    ///
    /// # Errors
    /// Its files are missing, or it is a network and not connected.
    pub fn one(&self, name: &str) -> Result<Box<dyn Reward>> {
        if let Some((whole, measure)) = name.split_once('.') {
            return Ok(Box::new(Part::new(self.one(whole)?, measure)));
        }
        if let Some(critic) = self.critics.get(name) {
            return Ok(Box::new(Arc::clone(critic)));
        }
        Ok(match name {
            "geneval" => Box::new(Geneval::default()),
            "looks" => Box::new(Looks),
            "ocr" => {
                let assets = recogniser::assets();
                Box::new(Ocr::shared(&assets).map_err(|e| Fault::user(e.to_string()))?)
            }
            other => {
                let fault = Fault::user(format!("nothing on the port `critics` judges by `{other}`"));
                return Err(fault.help(format!("connect a `critic` with `reward: {other}`")).into());
            }
        })
    }

    /// The weighted sum of several.
    ///
    /// # Errors
    /// As for [`Jury::one`].
    pub fn weighted(&self, weights: &Weights) -> Result<Weighted> {
        let parts = weights.iter().map(|(name, weight)| Ok((*weight, self.one(name)?))).collect::<Result<Vec<_>>>()?;
        Weighted::new(parts).map_err(|e| Fault::user(e.to_string()).into())
    }
}

/// Opens the critic of this name from the folder of its parts.
///
/// # Errors
/// A part is missing or damaged: the user's fault.
pub fn open(name: &str, folder: &Path, device: Device) -> Result<Box<dyn Reward>> {
    if name == "geneval" && folder.join("detector").join(BUNDLED.0).is_file() {
        return Ok(Box::new(Geneval::default()));
    }
    opdflow_critics::open(name, folder, device).map_err(|e| unfit(&e).into())
}

/// Whether the reward can judge pictures of these prompts at all.
///
/// # Errors
/// The first prompt that it cannot.
pub fn judges(reward: &dyn Reward, records: &[Record]) -> Result<()> {
    let lacks = |r: &&Record| !reward.applies(&r.subject());
    if let Some(record) = records.iter().find(lacks) {
        let what = format!("the reward `{}` cannot judge the prompt {:?}", reward.name(), record.text);
        return Err(Fault::user(what).help("give it prompts with what it reads (docs/rewards.md)").into());
    }
    match records.iter().find_map(|r| reward.refuses(&r.subject())) {
        None => Ok(()),
        Some(why) => Err(Fault::user(format!("the reward `{}` cannot judge these prompts: {why}", reward.name()))
            .help("use prompts about what it can find, or another detector (docs/rewards.md)")
            .into()),
    }
}

/// What is known of a critic before it is opened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Known {
    /// The reward that it judges by.
    pub reward: String,
    /// Bytes of its weights in f32.
    pub bytes: Option<u64>,
    /// Of GenEval's, the classes that its detector finds.
    pub classes: Option<Vec<String>>,
}

fn known(inputs: &Foreseen) -> impl Iterator<Item = (&str, Known)> {
    let critics = inputs.iter().filter_map(|(port, value)| Some((port.strip_prefix("critics.")?, value)));
    critics.filter_map(|(name, value)| Some((name, serde_json::from_value(value.clone()).ok()?)))
}

/// The memory that connected critics take, if something is known of them.
#[must_use]
pub fn memory(inputs: &Foreseen) -> Option<Memory> {
    let bytes: u64 = known(inputs).filter_map(|(_, critic)| critic.bytes).sum();
    (bytes > 0).then(|| Memory::of("critics", bytes))
}

/// The classes that the connected `geneval` finds, if there is one and they are known.
#[must_use]
pub fn classes(inputs: &Foreseen) -> Option<Vec<String>> {
    known(inputs).find(|(name, _)| *name == "geneval")?.1.classes
}

/// Critics that are connected under another name than that of their reward.
#[must_use]
pub fn misnamed(inputs: &Foreseen) -> Vec<ParamFault> {
    let other = known(inputs).filter(|(name, critic)| *name != critic.reward);
    let fault = |(name, critic): (&str, Known)| {
        let what = format!("this critic judges by `{}`, not by `{name}`", critic.reward);
        ParamFault::of_port(format!("critics.{name}"), what)
            .help(format!("connect it as `critics: {{{}: ...}}`", critic.reward))
    };
    other.map(fault).collect()
}
