//! What a run came to: its summary, and the outputs that are meant for people.

pub mod artefacts;
pub mod card;
pub mod kinds;
mod outputs;
mod pace;
pub mod params;
pub mod sketch;
mod summary;
pub mod svg;

pub use outputs::{Copied, copy_finals};
pub use pace::Pace;
pub use summary::{StageSummary, Standing, Summary, job_words};
