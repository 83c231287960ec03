//! Reward models: networks that judge images, as rewards.
//!
//! A reward model's files are the user's own. Each kind of reward model names the parts that it is made of, as folders
//! or single files; they lie side by side in one folder, `<folder>/<part>/`, from which the reward model is opened.

mod aesthetic;
mod batches;
pub mod clip;
mod clipscore;
pub mod geneval;
pub mod head;
mod hpsv2;
pub mod imagereward;
mod judge;
pub mod mask2former;
mod niqe;
mod parts;
mod pickscore;
pub mod pixels;

use anyhow::{Result, bail};
pub use batches::BATCH;
use opdflow_rewards::Reward;
pub use opdflow_spec::reward_models::{ModelPart, REWARD_MODELS, RewardModel, named};
use std::path::Path;
use tch::Device;

/// Opens the reward model of this name from the folder of its parts; but for `ocr`, which is no network of libtorch's
/// ([`opdflow_rewards::Ocr::of_files`]). Apart from [`REWARD_MODELS`], so that a program
/// which only asks what there is does without libtorch.
///
/// # Errors
/// No such reward model; a part that is missing, damaged, or of another form than its configuration says.
pub fn open(name: &str, folder: &Path, device: Device) -> Result<Box<dyn Reward>> {
    match name {
        "aesthetic" => aesthetic::open(folder, device),
        "clipscore" => clipscore::open(folder, device),
        "geneval" => geneval::open(folder, device),
        "hpsv2" => hpsv2::open(folder, device),
        "imagereward" => imagereward::open(folder, device),
        "niqe" => niqe::open(folder),
        "pickscore" => pickscore::open(folder, device),
        _ => bail!("no reward model is named `{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reward_model_opens_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str| open(name, folder.path(), Device::Cpu).err().unwrap().to_string();
        // Text is read with a runtime of its own, whose place the worker knows.
        for reward_model in REWARD_MODELS.iter().filter(|r| r.name != "ocr") {
            assert_eq!(named(reward_model.name).unwrap().name, reward_model.name);
            let why = refused(reward_model.name);
            assert!(why.contains("the part `") && why.contains("is missing"), "{why}");
            assert!(reward_model.shown.is_none_or(|m| reward_model.measures.contains(&m)));
        }
        assert!(refused("charm").contains("no reward model"));
    }
}
