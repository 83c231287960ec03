//! What libtorch did in a stretch of work, by its own profiler: operators asked for, kernels launched, waits of this process for the
//! GPU. The trace is kept as a file that Perfetto (<https://ui.perfetto.dev>) and `chrome://tracing` open.
//!
//! On a CPU there are operators alone. What asks a tensor for a number (`item`) is counted there too: on a GPU each of these waits.

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Mutex;
// Links libtorch.
use torch_sys as _;

unsafe extern "C" {
    fn profiler_error() -> *const c_char;
    fn profiler_begin(gpu: c_int) -> c_int;
    fn profiler_end(path: *const c_char) -> c_int;
}

/// What was done in a stretch of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Profile {
    /// libtorch's operators (`aten::...`), those that others call included.
    pub operators: u64,
    /// Numbers read out of a tensor (`aten::_local_scalar_dense`).
    pub numbers_read: u64,
    /// Calls that put kernels, or a graph of them, into a GPU's queue.
    pub launches: u64,
    /// Kernels that a GPU ran.
    pub kernels: u64,
    /// Seconds of these, added up.
    pub kernel_seconds: f64,
    /// Copies between a GPU's memory and another.
    pub copies: u64,
    /// Calls that wait for a GPU. The profiler's own, as it ends, is among them where it is seen.
    pub synchronisations: u64,
}

/// Calls of CUDA that put work into a queue, by the beginning of their names.
const LAUNCHES: [&str; 3] = ["cudaLaunch", "cuLaunch", "cudaGraphLaunch"];

/// Calls of CUDA that wait. Copies from memory that is not pinned wait, too; they end in one of these.
const WAITS: [&str; 7] = [
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "cuStreamSynchronize",
    "cuCtxSynchronize",
    "cuEventSynchronize",
];

/// One at a time: the profiler is the process's.
static ONE: Mutex<()> = Mutex::new(());

/// Does `work` under the profiler and keeps the trace in `trace`. `gpu`: whether what GPUs do is recorded, for which libtorch must have
/// CUDA. `work` runs slower than without.
///
/// # Errors
/// What `work` says; a trace that cannot be written or read.
pub fn profiled<T>(gpu: bool, trace: &Path, work: impl FnOnce() -> Result<T>) -> Result<(T, Profile)> {
    let path = CString::new(trace.as_os_str().as_bytes()).context("a path with a zero byte")?;
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: no memory of ours is involved.
    checked(unsafe { profiler_begin(gpu.into()) })?;
    let running = Running;
    let done = work();
    std::mem::forget(running);
    let kept = if done.is_ok() { path.as_ptr() } else { std::ptr::null() };
    // SAFETY: the path outlives the call.
    let ended = checked(unsafe { profiler_end(kept) });
    let done = done?;
    ended.with_context(|| format!("the profile {}", trace.display()))?;
    Ok((done, read(trace)?))
}

/// Ends the profiler where the work panics.
struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: a null pointer drops what was recorded.
        unsafe { profiler_end(std::ptr::null()) };
    }
}

fn checked(code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the words live as long as this thread, and are copied here.
    let words = unsafe { CStr::from_ptr(profiler_error()) };
    bail!("libtorch's profiler: {}", words.to_string_lossy())
}

/// A trace in Chrome's form, as far as it is counted.
#[derive(Deserialize)]
struct Trace {
    #[serde(rename = "traceEvents")]
    events: Vec<TraceEvent>,
}

#[derive(Deserialize)]
struct TraceEvent {
    #[serde(default)]
    ph: String,
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    /// Microseconds.
    #[serde(default)]
    dur: f64,
}

/// Counts what a trace says.
///
/// # Errors
/// It cannot be read, or is no trace of the profiler: it has no event.
pub fn read(trace: &Path) -> Result<Profile> {
    let text = std::fs::read(trace).with_context(|| format!("cannot read {}", trace.display()))?;
    let Trace { events } = serde_json::from_slice(&text).with_context(|| format!("the trace {}", trace.display()))?;
    let mut found = Profile::default();
    let mut any = false;
    for event in events.iter().filter(|e| e.ph == "X") {
        any = true;
        let name = event.name.as_str();
        match event.cat.as_str() {
            "cpu_op" if name.starts_with("aten::") => {
                found.operators += 1;
                found.numbers_read += u64::from(name == "aten::_local_scalar_dense");
            }
            "kernel" => {
                found.kernels += 1;
                found.kernel_seconds += event.dur / 1e6;
            }
            "gpu_memcpy" => found.copies += 1,
            "cuda_runtime" | "cuda_driver" if LAUNCHES.iter().any(|l| name.starts_with(l)) => found.launches += 1,
            "cuda_runtime" | "cuda_driver" if WAITS.contains(&name) => found.synchronisations += 1,
            _ => {}
        }
    }
    ensure!(any, "the trace {} has no event", trace.display());
    Ok(found)
}
