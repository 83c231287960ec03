//! CUDA at run time: one program for machines with and without a GPU.
//!
//! The program is linked against the CPU half of libtorch. The CUDA half comes in as a library of its own: the
//! `libtorch.so` of a CUDA build of PyTorch pulls in `libtorch_cuda.so`, which tells libtorch of itself while it loads.
//! In the small folder that `scripts/setup.sh` makes, `libtorch.so` is an empty shell, and nothing more comes in.
//! The loader's search decides which of the two it is: `LD_LIBRARY_PATH` first, then the program's own run path.
//!
//! libtorch looks for CUDA once, at the first question that needs the answer (`Cuda::is_available`, a manual seed), and
//! keeps the answer for the life of the process. So [`load`] comes before anything else of libtorch's.

use std::ffi::CStr;
use std::sync::OnceLock;

/// The CUDA half is there but does not load.
#[derive(Clone, Debug, thiserror::Error)]
#[error("libtorch.so cannot be loaded: {0}")]
pub struct LoadError(String);

/// Loads `libtorch.so`, and with it the CUDA half of libtorch if it is in the same folder. It stays for good; a second
/// call does nothing and says the same. Call it first thing in a process that was given a GPU: before the first
/// `tch::Cuda::is_available`, `tch::manual_seed` or tensor.
///
/// # Errors
/// The loader's own words, such as a driver library that is missing.
pub fn load() -> Result<(), LoadError> {
    static LOADED: OnceLock<Result<(), LoadError>> = OnceLock::new();
    LOADED.get_or_init(open).clone()
}

fn open() -> Result<(), LoadError> {
    // SAFETY: the name ends in a zero byte. Running the library's initialisers is what this is for; they are libtorch's.
    let handle =
        unsafe { libc::dlopen(c"libtorch.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL | libc::RTLD_NODELETE) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: `dlerror` gives null or a text that lives until this thread's next call of the loader.
    let reason = unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            "the loader does not say why".to_owned()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    };
    Err(LoadError(reason))
}

#[cfg(test)]
mod tests {
    use super::load;
    use std::path::PathBuf;

    /// The file that is mapped into this process under this name.
    fn mapped(name: &str) -> Option<PathBuf> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter_map(|l| l.split_whitespace().nth(5)).map(PathBuf::from).find(|p| p.ends_with(name))
    }

    // Holds in the folder of `scripts/setup.sh` and, with a CUDA build in front of LD_LIBRARY_PATH, in that one's.
    #[test]
    fn cuda_comes_with_libtorch_where_it_is() {
        load().unwrap();
        load().unwrap();
        let libtorch = mapped("libtorch.so").expect("libtorch.so is loaded");
        let beside = libtorch.with_file_name("libtorch_cuda.so");
        assert_eq!(beside.exists(), mapped("libtorch_cuda.so").is_some(), "{}", beside.display());
        assert_eq!(mapped("libtorch_cpu.so").unwrap().parent(), libtorch.parent(), "both halves from one build");
    }
}
