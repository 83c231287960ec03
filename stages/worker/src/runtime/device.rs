//! The device that a process computes on.

use crate::runtime::allocator::keep_freed_memory;
use anyhow::Result;
use opdflow_api::Fault;
use tch::Device;

/// What kind of device this is, of which what fits one fits another: the model of the GPU as its driver names it, or `cpu`.
#[must_use]
pub fn kind(name: &str) -> String {
    if !name.starts_with("cuda") {
        return "cpu".to_owned();
    }
    let of = |folder: std::fs::DirEntry| {
        let text = std::fs::read_to_string(folder.path().join("information")).ok()?;
        Some(model(&text)?.to_owned())
    };
    let gpus = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    gpus.filter_map(of).min().unwrap_or_else(|| "cuda".to_owned())
}

/// The model that a driver's description of a GPU names.
fn model(text: &str) -> Option<&str> {
    text.lines().find_map(|line| Some(line.strip_prefix("Model:")?.trim())).filter(|model| !model.is_empty())
}

/// The device of this name, `cpu` or `cuda:N`, with at most so many threads; of several processes of a host, the one that is number
/// `local` has the GPU that many further on, if it sees more than one. First thing of libtorch's in a process.
///
/// # Errors
/// A GPU is asked for that is not there.
pub fn open(name: &str, threads: usize, local: usize) -> Result<Device> {
    keep_freed_memory();
    let Some(index) = name.strip_prefix("cuda") else {
        tch::set_num_threads(threads.max(1) as i32);
        return Ok(Device::Cpu);
    };
    // Before libtorch is asked anything: it looks for CUDA once in the life of a process.
    opdflow_models::device::load().map_err(|e| Fault::machine(e.to_string()))?;
    tch::set_num_threads(threads.max(1) as i32);
    let index: usize = index.trim_start_matches(':').parse().unwrap_or(0);
    if !tch::Cuda::is_available() {
        let fault = Fault::machine(format!("the work is to be done on `{name}`, but libtorch finds no CUDA device"));
        return Err(fault
            .help("put the folder of a CUDA build of libtorch in front of LD_LIBRARY_PATH, or set OPDFLOW_GPUS=0")
            .into());
    }
    let there = tch::Cuda::device_count();
    let index = if there > 1 && local > 0 { (index + local) % there as usize } else { index };
    if index as i64 >= there {
        return Err(Fault::machine(format!("there is no `{name}`, libtorch finds {there} CUDA devices")).into());
    }
    Ok(Device::Cuda(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_device_is_its_model() {
        assert_eq!(kind("cpu"), "cpu");
        let text = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 18\n";
        assert_eq!(model(text), Some("NVIDIA H100 80GB HBM3"));
        assert_eq!((model("IRQ: 1\n"), model("Model:\n")), (None, None));
        assert!(!kind("cuda:0").is_empty());
    }
}
