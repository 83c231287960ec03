//! `opdflow score`: images of anybody's by one reward.

use super::reward;
use crate::judging::asking::{self, Unasked};
use crate::judging::score::{fault, whole};
use crate::runtime::{device, images};
use anyhow::{Context as _, Result};
use opdflow_api::{Event, EventSink, Fault, ScoreOrder, StopFlag, Tool, read_order};
use opdflow_io::file;
use opdflow_kinds::judging::reward::{is_whole, wholes};
use opdflow_kinds::prompt::record::{self, Record};
use opdflow_rewards::{Image, Reward, RewardError, Subject};
use opdflow_spec::served::{Requests, Served};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rewards that look at the image alone.
const WITHOUT_PROMPT: [&str; 3] = ["aesthetic", "looks", "niqe"];

/// Seconds that a server may be away.
const PATIENCE: f64 = 60.0;

/// The tool.
pub struct Score;

impl Tool for Score {
    fn name(&self) -> &'static str {
        "score"
    }

    fn run(&self, order: &Value, events: &EventSink, stop: &StopFlag) -> Result<()> {
        let order: ScoreOrder = read_order(order)?;
        let served = reward::served(&order.reward, !order.files.is_empty() || order.model.is_some(), &order.with)?;
        if served.is_none() && !is_whole(&order.reward) {
            return Err(Fault::user(format!("no reward is named `{}`", order.reward)).help(wholes()).into());
        }
        let records = records(&order)?;
        // What the networks are read from lies there as long as they do.
        let (reward, _parts) = match served {
            Some(served) => (asked(served, stop)?, Vec::new()),
            None => {
                let params = reward::params(&order.reward, &files(&order), &order.with)?;
                reward::open(&params, device::open(&order.device, order.threads, 0)?)?
            }
        };
        for (image, record) in order.images.iter().zip(&records) {
            let subject = record.subject();
            if !reward.applies(&subject) {
                let what = format!("`{}` cannot judge {} by {:?}", order.reward, image.display(), record.text);
                let help = "give it prompts with what it reads (docs/reference/rewards.md)";
                return Err(Fault::user(what).help(help).into());
            }
        }
        for (paths, records) in order.images.chunks(order.batch.max(1)).zip(records.chunks(order.batch.max(1))) {
            if stop.raised() {
                return Err(Fault::user("asked to stop").into());
            }
            let seen: Vec<Image> = paths.iter().map(|path| open(path)).collect::<Result<_>>()?;
            let subjects: Vec<Subject> = records.iter().map(Record::subject).collect();
            let scores = reward.score(&seen, &subjects).map_err(away)?;
            whole(&order.reward, &scores, |i| records[i].text.as_str())?;
            for ((path, record), score) in paths.iter().zip(records).zip(scores) {
                let line = json!({"image": path.to_string_lossy(), "prompt": record.text, "reward": order.reward,
                    "value": score.value, "parts": score.parts});
                events.send(&Event::Said { text: line.to_string() });
            }
        }
        Ok(())
    }
}

/// A reward that is asked of a server. Nobody waits long for one that is away, as a training would.
fn asked(served: Served, stop: &StopFlag) -> Result<Box<dyn Reward>> {
    let requests = Requests { patience_seconds: PATIENCE, ..Requests::default() };
    asking::judge(served, requests, Arc::default(), stop.clone()).map_err(|e| match e {
        Unasked::Nowhere(fault) => fault.into(),
        Unasked::Refused(error) => away(error),
    })
}

/// There is no checkpoint to stop at: what a stage would wait for is a fault here.
fn away(error: RewardError) -> anyhow::Error {
    match error {
        RewardError::Away { .. } | RewardError::Stopped(_) | RewardError::Spent { .. } => {
            Fault::machine(error.to_string()).into()
        }
        other => fault(other),
    }
}

fn open(path: &Path) -> Result<Image> {
    images::read(path).map_err(|e| Fault::user(format!("{e:#}")).help("give it PNG, JPEG or WebP files").into())
}

/// The parts that were named, and those that a folder has.
fn files(order: &ScoreOrder) -> BTreeMap<String, String> {
    let mut files = order.files.clone();
    let Some(folder) = &order.model else { return files };
    let parts = opdflow_spec::reward_models::named(&order.reward).map_or(&[][..], |model| model.parts);
    for part in parts {
        let own = folder.join(part.name);
        let found = if own.exists() { own } else { folder.clone() };
        if !part.optional || found != *folder {
            files.entry(part.name.to_owned()).or_insert_with(|| found.to_string_lossy().into_owned());
        }
    }
    files
}

/// The prompt of each image.
fn records(order: &ScoreOrder) -> Result<Vec<Record>> {
    if let Some(path) = &order.prompts {
        let records = record::read(path)?;
        return match (records.as_slice(), order.images.len()) {
            ([one], images) => Ok(vec![one.clone(); images]),
            (all, images) if all.len() == images => Ok(records),
            (all, images) => {
                let what = format!("{} has {} prompts, and there are {images} images", path.display(), all.len());
                Err(Fault::user(what).help("give a line for each image, in their order, or one line for all").into())
            }
        };
    }
    order.images.iter().map(|image| beside(image, &order.reward)).collect()
}

/// The prompt in the file beside an image, where the reward reads one.
fn beside(image: &Path, reward: &str) -> Result<Record> {
    if WITHOUT_PROMPT.contains(&reward) {
        return Ok(Record::plain(""));
    }
    let path: PathBuf = image.with_extension("txt");
    let text = match file::read_text(&path, record::LARGEST) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = format!("`{reward}` reads the prompt, and {} has none beside it", image.display());
            let help = format!("give `--prompts FILE`, a line for each image, or write it to {}", path.display());
            return Err(Fault::user(what).help(help).into());
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let entries = record::entries(&path, &text).map_err(|faults| Fault::user(faults.join("\n")).help(record::LINES))?;
    match <[record::Entry; 1]>::try_from(entries) {
        Ok([entry]) => Ok(entry.record),
        Err(all) => {
            let what = format!("{} has {} prompts, and is beside one image", path.display(), all.len());
            Err(Fault::user(what).help("write one line").into())
        }
    }
}
