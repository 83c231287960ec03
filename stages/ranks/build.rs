//! Compiles the bridge to libtorch's collectives, and lets the tests of this crate find libtorch at run time.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo:rerun-if-env-changed=OPDFLOW_CUDA_INCLUDE");
    println!("cargo:rerun-if-changed=shim");
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    let lib = std::fs::canonicalize(&lib).unwrap_or(lib);
    let include = lib.with_file_name("include");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++20").warnings(false).debug(false);
    // Gloo's own headers are in no package of libtorch; `shim/gloo` declares the few names that c10d's mention.
    build.include("shim").include(&include).include(include.join("torch/csrc/api/include"));
    build.define("USE_DISTRIBUTED", None).define("USE_C10D_GLOO", None).define("_GLIBCXX_USE_CXX11_ABI", "1");
    match nccl(&lib, &include) {
        Some(folders) => {
            build.includes(folders).define("USE_C10D_NCCL", None).define("USE_CUDA", None);
            println!("cargo:rustc-link-lib=dylib=torch_cuda");
            println!("cargo:rustc-link-lib=dylib=c10_cuda");
        }
        // Gloo then serves GPUs too, by way of the machine's memory.
        None => println!("cargo:rustc-cfg=without_nccl"),
    }
    println!("cargo:rustc-check-cfg=cfg(without_nccl)");
    build.file("shim/collectives.cpp").compile("opdflow_collectives");
    println!("cargo:rustc-link-search=native={}", lib.display());
    for library in ["torch_cpu", "c10"] {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../../.deps/libtorch/lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

/// The folders of the headers that NCCL's part of c10d needs beside libtorch's own, if this is a libtorch for GPUs and they are
/// there: those in `OPDFLOW_CUDA_INCLUDE`, separated by colons, and the usual ones of the toolkit and of Debian's packages.
fn nccl(lib: &Path, include: &Path) -> Option<Vec<PathBuf>> {
    if !lib.join("libtorch_cuda.so").exists() {
        return None;
    }
    let told = std::env::var_os("OPDFLOW_CUDA_INCLUDE").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&told).filter(|p| !p.as_os_str().is_empty()).collect();
    folders.extend(["/usr/local/cuda/include", "/usr/include"].map(PathBuf::from));
    let has = |name: &str| folders.iter().any(|f| f.join(name).exists()) || include.join(name).exists();
    (has("nccl.h") && has("cuda_runtime.h")).then(|| folders.into_iter().filter(|f| f.is_dir()).collect())
}
