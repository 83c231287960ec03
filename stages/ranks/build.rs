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

/// Headers that NCCL's part of c10d needs beside libtorch's own, and the packages of Python that have them.
const HEADERS: [(&str, &str); 7] = [
    ("nccl.h", "nvidia-nccl-cu13"),
    ("cuda_runtime.h", "nvidia-cuda-runtime"),
    ("crt/host_config.h", "nvidia-cuda-crt"),
    ("cublas_v2.h", "nvidia-cublas"),
    ("cusparse.h", "nvidia-cusparse"),
    ("cusolverDn.h", "nvidia-cusolver"),
    ("nv/target", "nvidia-cuda-cccl"),
];

/// The folders of these headers, if this is a libtorch for GPUs and all of them are there: in the folders of `OPDFLOW_CUDA_INCLUDE`,
/// separated by colons, and the usual ones of the toolkit and of Debian's packages. Whoever sets the variable wants NCCL, and is told
/// what lacks.
fn nccl(lib: &Path, include: &Path) -> Option<Vec<PathBuf>> {
    if !lib.join("libtorch_cuda.so").exists() {
        return None;
    }
    let told = std::env::var_os("OPDFLOW_CUDA_INCLUDE").filter(|told| !told.is_empty());
    let mut folders: Vec<PathBuf> = told.iter().flat_map(std::env::split_paths).collect();
    folders.extend(["/usr/local/cuda/include", "/usr/include"].map(PathBuf::from));
    let has = |name: &str| folders.iter().any(|f| f.join(name).exists()) || include.join(name).exists();
    let lacking: Vec<String> = HEADERS
        .iter()
        .filter(|(header, _)| !has(header))
        .map(|(header, package)| format!("{header} (pip install {package})"))
        .collect();
    if lacking.is_empty() {
        return Some(folders.into_iter().filter(|f| f.is_dir()).collect());
    }
    let words = format!("headers of CUDA are not there: {}; docs/how-to/several-gpus.md", lacking.join(", "));
    assert!(told.is_none(), "NCCL is wanted by OPDFLOW_CUDA_INCLUDE, and {words}");
    println!("cargo:warning=processes on GPUs will speak by Gloo and not by NCCL: {words}");
    None
}
