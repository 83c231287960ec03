//! What stages run on: a device, a loaded model, the frame around training.

mod allocator;
pub mod beside;
pub mod device;
pub mod fitting;
pub mod images;
pub mod learn;
pub mod pause;
pub mod pipeline;
pub mod precision;
pub mod prompt_task;
pub mod ranks;
pub mod samples;
pub mod unfit;
pub mod validated;
pub mod watch;
