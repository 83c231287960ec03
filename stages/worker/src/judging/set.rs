//! Sets of prompts, each with the rewards that judge it.

use crate::judging::jury::Jury;
use crate::judging::{jury, score};
use anyhow::Result;
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::judging::reward;
use opdflow_kinds::judging::wanted::Wanted;
use opdflow_kinds::prompt::record;
use opdflow_kinds::prompt::record::Record;
use opdflow_rewards::{Picture, Reward};
use std::collections::BTreeMap;

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
    pub fn connected(wanted: &Wanted, jury: &Jury, context: &StageContext) -> Result<Vec<Self>> {
        context.names("prompts").into_iter().map(|name| Self::named(name, wanted, jury, context)).collect()
    }

    /// The set of this name.
    ///
    /// # Errors
    /// As for [`Set::connected`].
    pub fn named(name: String, wanted: &Wanted, jury: &Jury, context: &StageContext) -> Result<Self> {
        let records = record::read(&context.input(&format!("prompts.{name}"))?)?;
        let mut rewards = Vec::new();
        for reward in wanted.get(&name).unwrap_or(&vec![name.clone()]) {
            if !reward::is_whole(reward) {
                let fault = Fault::user(format!("no reward is named like the set of prompts `{name}`"));
                return Err(fault.help(format!("say which rewards judge it: `rewards: {{{name}: [...]}}`")).into());
            }
            let judge = jury.one(reward)?;
            jury::judges(&*judge, &records)?;
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
