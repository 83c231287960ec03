//! Where parity is checked: on the CPU against the fixtures beside this file, unless the environment says otherwise.
//! `scripts/gpu_check` runs the test programs on another machine, on its GPU.

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
            opdflow_models::device::load().unwrap();
            let index = name.strip_prefix("cuda:").and_then(|n| n.parse().ok());
            assert!(tch::Cuda::is_available(), "{name}: libtorch finds no CUDA device");
            Device::Cuda(index.unwrap_or_else(|| panic!("{name} is neither cpu nor cuda:N")))
        }
    })
}

/// A fixture by name; below `OPDFLOW_PARITY_FIXTURES` if that is set.
pub fn at(name: &str) -> PathBuf {
    let here = std::env::var_os("OPDFLOW_PARITY_FIXTURES").map(PathBuf::from);
    here.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity"))).join(name)
}

/// What a difference may be. `limit` is for values up to 1; rounding errors grow with the largest value, and by how much
/// they come out differs from processor to processor. A GPU adds in another order than the CPU that made the fixtures.
pub fn allowed(limit: f64, expected: &Tensor) -> f64 {
    let limit = limit * expected.abs().max().double_value(&[]).max(1.0);
    if device().is_cuda() { limit * 30.0 } else { limit }
}
