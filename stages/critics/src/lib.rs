//! Critics: networks that judge pictures, as rewards.
//!
//! A critic's files are the user's own. Each kind of critic names the parts that it is made of, as folders or single
//! files; they lie side by side in one folder, `<folder>/<part>/`, from which the critic is opened.

mod aesthetic;
mod batches;
pub mod clip;
mod clipscore;
pub mod geneval;
mod head;
mod hpsv2;
pub mod imagereward;
mod judge;
pub mod mask2former;
mod parts;
mod pickscore;
pub mod pixels;

use anyhow::Result;
use opdflow_rewards::Reward;
use std::path::Path;
use tch::Device;

/// Something that a critic is made of: a folder as published, or one file of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name, which is also that of its folder.
    pub name: &'static str,
    /// What it is and where it is published.
    pub about: &'static str,
    /// Whether the critic can do without.
    pub optional: bool,
}

/// A kind of critic.
pub struct Critic {
    /// The reward's name, as recipes write it.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// What it is made of.
    pub parts: &'static [Part],
    /// Opens it from the folder of its parts.
    pub open: fn(&Path, Device) -> Result<Box<dyn Reward>>,
}

/// All kinds, by name.
pub const CRITICS: &[Critic] =
    &[aesthetic::CRITIC, clipscore::CRITIC, geneval::CRITIC, hpsv2::CRITIC, imagereward::CRITIC, pickscore::CRITIC];

/// The kind of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Critic> {
    CRITICS.iter().find(|c| c.name == name)
}
