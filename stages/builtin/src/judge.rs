//! Sets of prompts, each with the rewards that judge it.

use crate::record::{self, Record};
use crate::{reward, score};
use anyhow::Result;
use opdflow_rewards::{Picture, Reward};
use opdflow_stage::{Asset, Fault, ParamFault, StageContext};
use std::collections::BTreeMap;

/// Names of rewards by set of prompts.
pub type Wanted = BTreeMap<String, Vec<String>>;

/// A set of prompts that can be judged.
pub struct Set {
    /// Its name on the port `prompts`.
    pub name: String,
    /// The prompts.
    pub records: Vec<Record>,
    rewards: Vec<Box<dyn Reward>>,
}

impl Set {
    /// All sets on the port `prompts`, with the rewards that are wanted for each, or else the one of the set's own name.
    ///
    /// # Errors
    /// A reward that there is not; a prompt that lacks what its reward needs.
    pub fn connected(wanted: &Wanted, context: &StageContext) -> Result<Vec<Self>> {
        context.names("prompts").into_iter().map(|name| Self::read(name, wanted, context)).collect()
    }

    fn read(name: String, wanted: &Wanted, context: &StageContext) -> Result<Self> {
        let records = record::read(&context.input(&format!("prompts.{name}"))?)?;
        let mut rewards = Vec::new();
        for reward in wanted.get(&name).unwrap_or(&vec![name.clone()]) {
            if !reward::NAMES.contains(&reward.as_str()) {
                let fault = Fault::user(format!("no reward is named like the set of prompts `{name}`"));
                return Err(fault.help(format!("say which rewards judge it: `rewards: {{{name}: [...]}}`")).into());
            }
            let judge = reward::one(reward)?;
            reward::judges(&*judge, &records)?;
            rewards.push(judge);
        }
        Ok(Self { name, records, rewards })
    }

    /// Every column of every reward for pictures of all the prompts.
    ///
    /// # Errors
    /// A reward fails.
    pub fn columns(&self, pictures: &[Picture]) -> Result<BTreeMap<String, Vec<f64>>> {
        let mut columns = BTreeMap::new();
        for reward in &self.rewards {
            columns.extend(score::columns(&**reward, pictures, &self.records)?);
        }
        Ok(columns)
    }
}

/// What is wrong with the wanted rewards, before anything runs.
pub fn check(wanted: &Wanted) -> Vec<ParamFault> {
    let mut faults = Vec::new();
    for (set, names) in wanted {
        for (i, name) in names.iter().enumerate().filter(|(_, n)| !reward::NAMES.contains(&n.as_str())) {
            let fault = ParamFault::new(format!("rewards.{set}[{i}]"), format!("no reward is named `{name}`"));
            faults.push(fault.help(format!("there are {}", reward::NAMES.join(", "))));
        }
    }
    faults
}

/// What judging reads from outside the store. Which sets there are is known from the inputs, not before: the recogniser
/// counts always. It is pinned.
pub fn assets() -> Vec<Asset> {
    reward::assets(std::iter::once(&"ocr".to_owned()))
}
