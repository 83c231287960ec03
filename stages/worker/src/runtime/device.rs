//! The device that a process computes on.

use anyhow::Result;
use opdflow_api::Fault;
use tch::Device;

/// The device of this name, `cpu` or `cuda:N`, with at most so many threads. First thing of libtorch's in a process.
///
/// # Errors
/// A GPU is asked for that is not there.
pub fn open(name: &str, threads: usize) -> Result<Device> {
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
    if index as i64 >= there {
        return Err(Fault::machine(format!("there is no `{name}`, libtorch finds {there} CUDA devices")).into());
    }
    Ok(Device::Cuda(index))
}
