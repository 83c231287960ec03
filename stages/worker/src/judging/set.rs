//! Sets of prompts, each with the rewards that judge it.

use crate::judging::dealt::{BATCH, Dealing, at};
use crate::judging::held_out::HeldOut;
use crate::judging::reward_set::RewardSet;
use crate::judging::score::Columns;
use crate::judging::{reward_set, score};
use crate::runtime::images;
use crate::runtime::pipeline::Pipeline;
use crate::runtime::ranks::parted;
use anyhow::Result;
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::judging::reward;
use opdflow_kinds::judging::wanted::Wanted;
use opdflow_kinds::model::sampling::ImageSampling;
use opdflow_kinds::prompt::record;
use opdflow_kinds::prompt::record::Record;
use opdflow_models::lora::Lora;
use opdflow_rewards::{Image, Reward, Score, Subject};

/// A set of prompts that can be judged.
pub struct Set {
    /// Its name on the port `prompts`.
    pub name: String,
    /// The prompts.
    pub records: Vec<Record>,
    rewards: Vec<Box<dyn Reward>>,
    dealing: Dealing,
}

impl Set {
    /// Prompts that one reward judges.
    #[must_use]
    pub fn of(name: &str, records: Vec<Record>, reward: Box<dyn Reward>, dealing: Dealing) -> Self {
        Self { name: name.to_owned(), records, rewards: vec![reward], dealing }
    }

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
        Ok(Self { name, records, rewards, dealing: reward_set.dealing() })
    }

    /// Each prompt `count` times in a row: several images of it.
    pub fn repeat(&mut self, count: usize) {
        let records = std::mem::take(&mut self.records).into_iter();
        self.records = records.flat_map(|record| std::iter::repeat_n(record, count.max(1))).collect();
    }

    /// What the first of its rewards gave each image, in columns of [`Set::judged`].
    #[must_use]
    pub fn values<'c>(&self, columns: &'c Columns) -> &'c [f64] {
        let column = self.rewards.first().map(|reward| format!("{}.reward", reward.name()));
        column.and_then(|column| columns.get(&column)).map_or(&[], Vec::as_slice)
    }

    /// An image of each prompt, with every column of its rewards and the headlines of `held_out`. They are judged on a thread of their
    /// own while the next are made. `watch` is told how many are done.
    ///
    /// # Errors
    /// What [`Pipeline::generate`] and `watch` say; a reward fails.
    pub fn judged(
        &self,
        (pipeline, lora, sampling): (&Pipeline, Option<&Lora>, &ImageSampling),
        held_out: Option<&HeldOut>,
        watch: impl FnMut(usize) -> Result<()>,
    ) -> Result<(Vec<Image>, Columns)> {
        let looking = held_out.map_or(&[][..], HeldOut::judges);
        for (_, judge) in looking {
            reward_set::judges(&**judge, &self.records)?;
        }
        let own = self.rewards.iter().map(|reward| (None, &**reward));
        let all: Vec<(Option<&String>, &dyn Reward)> =
            own.chain(looking.iter().map(|(column, reward)| (Some(column), &**reward))).collect();
        let subjects: Vec<Subject> = self.records.iter().map(Record::subject).collect();
        // The scores of each image by each reward.
        let judge = |images: &[Image], first: usize| {
            let of = &subjects[first..first + images.len()];
            let mut by_image = vec![Vec::with_capacity(all.len()); images.len()];
            for (_, reward) in &all {
                let scores = reward.score(images, of).map_err(|error| at(error, first))?;
                by_image.iter_mut().zip(scores).for_each(|(image, score)| image.push(score));
            }
            Ok(by_image)
        };
        let (images, judged) = pipeline.generate_own(&self.records, (lora, sampling), watch, BATCH, judge)?;
        let (judged, mut failed) = judged.map_or_else(|error| (Vec::new(), Some(error)), |judged| (judged, None));
        let mut columns = Columns::new();
        for (place, (column, reward)) in all.iter().enumerate() {
            // All processes ask all rewards; where one failed in this process, the first of them says so to all.
            let own =
                failed.take().map_or_else(|| Ok(judged.iter().map(|s: &Vec<Score>| s[place].clone()).collect()), Err);
            let scores = self.dealing.gathered(reward.name(), own).map_err(score::fault)?;
            let mut found = score::columns(reward.name(), &scores, &self.records)?;
            match column {
                None => columns.extend(found),
                Some(column) => columns.extend(found.remove(reward.name()).map(|values| ((*column).clone(), values))),
            }
        }
        Ok((images::gathered(images, pipeline.canvas.ranks, pipeline.canvas.device).map_err(parted)?, columns))
    }
}
