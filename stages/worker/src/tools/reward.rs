//! A reward outside of recipes: a rule of the program, or a reward model from the user's files.

use crate::judging::reward_set;
use crate::runtime::unfit::unfit;
use crate::stages::reward_model::{gathered, lay_out};
use anyhow::{Context as _, Result};
use opdflow_api::{Fault, ParamFault, Stage as _};
use opdflow_kinds::stages::reward_model::{Params, RewardModel};
use opdflow_rewards::{Geneval, Reward};
use std::path::Path;
use tch::Device;

/// A reward, and the folders that its parts are in: they must stay as long as the reward.
pub type Opened = (Box<dyn Reward>, Vec<tempfile::TempDir>);

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
    if let Some(ParamFault { message, help, .. }) = faults.into_iter().next() {
        let fault = Fault::user(message);
        let help = help.map(|help| format!("{help}; parts are given as `--part NAME=PATH`"));
        return Err(Fault { help, ..fault }.into());
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
