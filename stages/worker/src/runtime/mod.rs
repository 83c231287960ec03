//! What stages run on: a device, a loaded model, the frame around training.

pub mod device;
pub mod fitting;
pub mod learn;
pub mod pictures;
pub mod precision;
pub mod prompt_task;
pub mod studio;
pub mod unfit;
pub mod watch;
