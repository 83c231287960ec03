//! Rewards: what an image earns for a prompt. OCR, GenEval and looks behind one trait, [`Reward`].
//!
//! A reward sees 8-bit sRGB images and the part of the prompt that it may read ([`Subject`]); it knows nothing of
//! models or training. The images' type ([`Image`]) and GenEval's metadata ([`geneval::Metadata`]) are here too.
//! Values are finite; their usual range is given with each reward.

pub mod detector;
pub mod geneval;
mod image;
pub mod looks;
mod metadata;
pub mod niqe;
pub mod ocr;
pub mod opencv;
mod palette;
mod part;
pub mod questions;
mod quote;
mod reward;
mod weighted;

pub use geneval::Geneval;
pub use image::Image;
pub use looks::Looks;
pub use ocr::Ocr;
pub use palette::{Colour, Shape};
pub use part::RewardPart;
pub use quote::quoted;
pub use reward::{Reward, RewardError, Score, Subject, check};
pub use weighted::Weighted;
