//! A reward outside of recipes: a rule of the program, or a reward model from the user's files.

use crate::judging::reward_set;
use crate::runtime::unfit::unfit;
use crate::stages::reward_model::{gathered, lay_out};
use anyhow::{Context as _, Result};
use opdflow_api::{Fault, Kind, ParamFault, Stage as _};
use opdflow_kinds::stages::reward_model::{Params, RewardModel};
use opdflow_kinds::stages::served_reward::{self, ServedReward};
use opdflow_rewards::{Geneval, Reward};
use opdflow_spec::served::Served;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Device;

/// The parameter that says that a reward is asked of a server.
const PROTOCOL: &str = "protocol";

/// A reward, and the folders that its parts are in: they must stay as long as the reward.
pub type Opened = (Box<dyn Reward>, Vec<tempfile::TempDir>);

/// What `reward_model` is told of a reward with these parts and further parameters.
///
/// # Errors
/// A parameter that the kind refuses; what is said of a server.
pub fn params(reward: &str, files: &BTreeMap<String, String>, with: &Map<String, Value>) -> Result<Params> {
    if with.contains_key(PROTOCOL) {
        let fault = Fault::user(format!("`{reward}` with a `{PROTOCOL}` is a reward of another server"));
        return Err(fault.help("name a reward of this program").into());
    }
    if with.is_empty() {
        return Ok(Params { reward: reward.to_owned(), files: files.clone(), reader: None });
    }
    read(&RewardModel, json!({"reward": reward, "files": files}), with)
}

/// What `served_reward` is told of this reward, if it is one.
///
/// # Errors
/// A parameter that the kind refuses; parts, which such a reward has none of.
pub fn served(reward: &str, files: bool, with: &Map<String, Value>) -> Result<Option<Served>> {
    if !with.contains_key(PROTOCOL) {
        return Ok(None);
    }
    if files {
        let fault = Fault::user(format!("`{reward}` is asked of a server, which has its own files"));
        return Err(fault.help("leave `--part` and `--model` out").into());
    }
    let params: served_reward::Params = read(&ServedReward, json!({"reward": reward}), with)?;
    Ok(Some(Served { reward: params.reward, protocol: params.protocol.written_out() }))
}

/// The parameters of a kind, checked as a recipe's are.
fn read<P: DeserializeOwned>(kind: &dyn Kind, mut own: Value, with: &Map<String, Value>) -> Result<P> {
    if let Some(map) = own.as_object_mut() {
        map.extend(with.clone());
    }
    Ok(serde_json::from_value(kind.normalise(&own).map_err(first)?)?)
}

/// The first of what is wrong with a reward's parameters.
#[must_use]
pub fn first(faults: Vec<ParamFault>) -> Fault {
    let Some(ParamFault { path, message, help, .. }) = faults.into_iter().next() else {
        return Fault::user("the reward's parameters are refused");
    };
    let named = if path.is_empty() || message.contains(&format!("`{path}`")) {
        message
    } else {
        format!("`{path}`: {message}")
    };
    let help = help.map(|help| {
        if path.starts_with("files") { format!("{help}; parts are given as `--part NAME=PATH`") } else { help }
    });
    Fault { help, ..Fault::user(named) }
}

/// Opens the reward.
///
/// # Errors
/// A part is missing, or not what it should be: the user's fault.
pub fn open(params: &Params, device: Device) -> Result<Opened> {
    let name = params.reward.as_str();
    let own = if params.files.is_empty() { reward_set::rule(name)? } else { None };
    if let Some(own) = own {
        return Ok((own, Vec::new()));
    }
    let faults = RewardModel.check(params);
    if !faults.is_empty() {
        return Err(first(faults).into());
    }
    if params.bundled() {
        return Ok((Box::new(Geneval::default()), Vec::new()));
    }
    let unpacked = tempfile::tempdir().context("a folder for the parts of the program")?;
    let files = gathered(params, Path::new("."), unpacked.path())?;
    let laid = lay_out(&files, None)?;
    let opened = reward_set::open(name, laid.path(), device).map_err(|e| match e.downcast::<Fault>() {
        Ok(fault) => fault,
        Err(other) => unfit(&other),
    })?;
    Ok((opened, vec![unpacked, laid]))
}
