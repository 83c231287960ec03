//! The rewards that a stage may ask: those of the program, and the critics on its port `critics`.

use crate::recogniser;
use crate::record::Record;
use crate::reward::Weights;
use crate::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_rewards::{Geneval, Looks, Ocr, Part, Reward, Weighted};
use opdflow_stage::port::Input;
use opdflow_stage::{Fault, Foreseen, Memory, StageContext};
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
    match records.iter().find_map(|r| reward.refuses(&r.subject())) {
        None => Ok(()),
        Some(why) => Err(Fault::user(format!("the reward `{}` cannot judge these prompts: {why}", reward.name()))
            .help("use prompts about what it can find, or another detector (docs/rewards.md)")
            .into()),
    }
}

/// The memory that connected critics take, if something is known of them.
#[must_use]
pub fn memory(inputs: &Foreseen) -> Option<Memory> {
    let critics = inputs.iter().filter(|(port, _)| port.starts_with("critics."));
    let bytes: u64 = critics.filter_map(|(_, bytes)| bytes.as_u64()).sum();
    (bytes > 0).then(|| Memory::of("critics", bytes))
}
