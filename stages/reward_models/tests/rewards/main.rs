//! Rewards of small random networks against the published code, file by file.

mod clip;
mod faults;
mod imagereward;
#[path = "../place/mod.rs"]
mod place;
mod rig;
