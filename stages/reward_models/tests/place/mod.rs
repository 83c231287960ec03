//! Where parity is checked: on the CPU against the fixtures beside this file, unless the environment says otherwise.
//! `scripts/gpu_check` runs the test programs on another machine, on its GPU.

#![allow(dead_code, reason = "each test program uses a part of it")]

#[path = "../../../models/tests/parity/place.rs"]
mod models;

pub use models::device;
use std::path::PathBuf;
use tch::{Device, Tensor};

/// A fixture by name; below `OPDFLOW_REWARD_MODELS_FIXTURES` if that is set.
pub fn at(name: &str) -> PathBuf {
    let here = std::env::var_os("OPDFLOW_REWARD_MODELS_FIXTURES").map(PathBuf::from);
    here.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"))).join(name)
}

/// Largest absolute difference; printed, so that `--nocapture` gives the table. A GPU, which adds in another order than
/// the CPU that the fixtures were made on, may differ by more.
#[track_caller]
pub fn close(what: &str, found: &Tensor, expected: &Tensor, limit: f64) {
    assert_eq!(found.size(), expected.size(), "{what}: shape");
    let limit = models::allowed(limit, expected);
    let diff = (found.to_device(Device::Cpu) - expected).abs().max().double_value(&[]);
    println!("{what}: max |difference| {diff:.2e} of max |value| {:.2e}", expected.abs().max().double_value(&[]));
    assert!(diff <= limit, "{what}: differs by {diff:e}, allowed {limit:e}");
}
