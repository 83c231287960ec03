//! Where parity is checked: on the CPU against the fixtures beside this file, unless the environment says otherwise.
//! `scripts/gpu_check` runs the test programs on another machine, on its GPU.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::PathBuf;
use std::sync::OnceLock;
use tch::{Device, Tensor};

/// `OPDFLOW_PARITY_DEVICE=cuda:0`, or the CPU.
pub fn device() -> Device {
    static CHOSEN: OnceLock<Device> = OnceLock::new();
    *CHOSEN.get_or_init(|| match std::env::var("OPDFLOW_PARITY_DEVICE").as_deref() {
        Err(_) | Ok("" | "cpu") => Device::Cpu,
        Ok(name) => {
            // Before anything else of libtorch's: it looks for CUDA once in the life of a process.
            opdflow_flow::device::load().unwrap();
            let index = name.strip_prefix("cuda:").and_then(|n| n.parse().ok());
            assert!(tch::Cuda::is_available(), "{name}: libtorch finds no CUDA device");
            Device::Cuda(index.unwrap_or_else(|| panic!("{name} is neither cpu nor cuda:N")))
        }
    })
}

/// A fixture by name; below `OPDFLOW_CRITICS_FIXTURES` if that is set.
pub fn at(name: &str) -> PathBuf {
    let here = std::env::var_os("OPDFLOW_CRITICS_FIXTURES").map(PathBuf::from);
    here.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"))).join(name)
}

/// Largest absolute difference; printed, so that `--nocapture` gives the table. A GPU, which adds in another order than
/// the CPU that the fixtures were made on, may differ by more.
#[track_caller]
pub fn close(what: &str, found: &Tensor, expected: &Tensor, limit: f64) {
    assert_eq!(found.size(), expected.size(), "{what}: shape");
    let limit = if device().is_cuda() { limit * 30.0 } else { limit };
    let diff = (found.to_device(Device::Cpu) - expected).abs().max().double_value(&[]);
    println!("{what}: max |difference| {diff:.2e} of max |value| {:.2e}", expected.abs().max().double_value(&[]));
    assert!(diff <= limit, "{what}: differs by {diff:e}, allowed {limit:e}");
}
