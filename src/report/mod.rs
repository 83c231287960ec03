//! What a run came to: its summary, and the outputs that are meant for people.

mod outputs;
mod summary;

pub use outputs::{Copied, copy_finals};
pub use summary::{StageSummary, Standing, Summary};
