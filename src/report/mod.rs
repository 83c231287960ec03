//! What a run came to: its summary, the outputs that are meant for people, the numbers of its tables, and how it differs from another.

pub mod against;
pub mod artefacts;
pub mod card;
pub mod kinds;
pub mod numbers;
mod outputs;
mod pace;
pub mod params;
pub mod sketch;
mod summary;
pub mod svg;
mod trace;

pub use outputs::{Copied, copy_finals};
pub use pace::Pace;
pub use summary::{StageSummary, Standing, Summary, job_words};
pub use trace::Trace;
