//! Sets of prompts, each with the rewards that judge it.

use crate::judging::reward_set::RewardSet;
use crate::judging::{reward_set, score};
use anyhow::Result;
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::judging::reward;
use opdflow_kinds::judging::wanted::Wanted;
use opdflow_kinds::prompt::record;
use opdflow_kinds::prompt::record::Record;
use opdflow_rewards::{Image, Reward};
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
    pub fn connected(wanted: &Wanted, reward_set: &RewardSet, context: &StageContext) -> Result<Vec<Self>> {
        context.names("prompts").into_iter().map(|name| Self::named(name, wanted, reward_set, context)).collect()
    }

    /// The set of this name.
    ///
    /// # Errors
    /// As for [`Set::connected`].
    pub fn named(name: String, wanted: &Wanted, reward_set: &RewardSet, context: &StageContext) -> Result<Self> {
        let records = record::read(&context.input(&format!("prompts.{name}"))?)?;
        let mut rewards = Vec::new();
        for reward in wanted.get(&name).unwrap_or(&vec![name.clone()]) {
            if !reward::is_whole(reward) && !reward_set.has(reward) {
                let fault = Fault::user(format!("no reward is named like the set of prompts `{name}`"));
                return Err(fault.help(format!("say which rewards judge it: `rewards: {{{name}: [...]}}`")).into());
            }
            let judge = reward_set.one(reward)?;
            reward_set::judges(&*judge, &records)?;
            rewards.push(judge);
        }
        Ok(Self { name, records, rewards })
    }

    /// Each prompt `count` times in a row: several images of it.
    pub fn repeat(&mut self, count: usize) {
        let records = std::mem::take(&mut self.records).into_iter();
        self.records = records.flat_map(|record| std::iter::repeat_n(record, count.max(1))).collect();
    }

    /// Every column of every reward for images of all the prompts.
    ///
    /// # Errors
    /// A reward fails.
    pub fn columns(&self, images: &[Image]) -> Result<BTreeMap<String, Vec<f64>>> {
        let mut columns = BTreeMap::new();
        for reward in &self.rewards {
            columns.extend(score::columns(&**reward, images, &self.records)?);
        }
        Ok(columns)
    }
}
