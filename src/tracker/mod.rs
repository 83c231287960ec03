//! A run in the files that other trackers read: TensorBoard's event files, live and afterwards, and MLflow's file store.
//!
//! The run log and the store stay the truth; all here is a view of them. `news.rs` turns the events of a run into what a tracker wants
//! to hear, `result.rs` reads what a stage left in the store, `tensorboard.rs` and `mlflow.rs` write it in their formats, and `live.rs`
//! writes the first of them while the run goes on.

mod course;
mod live;
mod mlflow;
mod names;
mod news;
mod result;
mod tensorboard;
mod wire;

pub use live::Live;
pub use mlflow::{Facts, write as mlflow};
pub use news::Story;
pub use result::Source;
pub use tensorboard::write as tensorboard;
