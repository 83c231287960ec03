//! What a run came to: its summary, and the outputs that are meant for people.

mod outputs;
mod pace;
mod summary;

pub use outputs::{Copied, copy_finals};
pub use pace::Pace;
pub use summary::{StageSummary, Standing, Summary};
