//! Rewards: what a picture earns for a prompt. OCR, GenEval and looks behind one trait, [`Reward`].
//!
//! A reward sees 8-bit sRGB pictures and the part of the prompt that it may read ([`Subject`]); it knows nothing of
//! models or training. The pictures' type ([`Picture`]) and GenEval's metadata ([`geneval::Metadata`]) are here too.
//! Values are finite; their usual range is given with each reward.

pub mod detector;
pub mod geneval;
pub mod looks;
mod metadata;
pub mod ocr;
pub mod opencv;
mod palette;
mod part;
mod picture;
mod quote;
mod reward;
mod weighted;

pub use geneval::Geneval;
pub use looks::Looks;
pub use ocr::Ocr;
pub use palette::{Colour, Shape};
pub use part::Part;
pub use picture::Picture;
pub use quote::quoted;
pub use reward::{Reward, RewardError, Score, Subject, check};
pub use weighted::Weighted;
