//! Rewards: what a picture earns for a prompt. OCR, GenEval and looks behind one trait, [`Reward`].
//!
//! A reward sees 8-bit sRGB pictures and the part of the prompt that it may read ([`Subject`]); it knows nothing of
//! models or training. Values are finite; their usual range is given with each reward.

pub mod detector;
pub mod geneval;
pub mod looks;
pub mod ocr;
pub mod opencv;
mod part;
mod quote;
mod reward;
mod weighted;

pub use geneval::Geneval;
pub use looks::Looks;
pub use ocr::Ocr;
pub use opdflow_world::Picture;
pub use part::Part;
pub use quote::quoted;
pub use reward::{Reward, RewardError, Score, Subject, check};
pub use weighted::Weighted;
