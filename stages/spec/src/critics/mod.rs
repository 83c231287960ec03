//! Critics, networks that judge pictures: which there are, and which files each is made of. `opdflow-reward-models` has the networks.

pub mod aesthetic;
pub mod clipscore;
mod critic;
pub mod geneval;
pub mod hpsv2;
pub mod imagereward;
pub mod pickscore;

pub use critic::{CLIP, Critic, Part};

/// All kinds, by name.
pub const CRITICS: &[Critic] =
    &[aesthetic::CRITIC, clipscore::CRITIC, geneval::CRITIC, hpsv2::CRITIC, imagereward::CRITIC, pickscore::CRITIC];

/// The kind of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Critic> {
    CRITICS.iter().find(|c| c.name == name)
}
