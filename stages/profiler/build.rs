//! Compiles the bridge to libtorch's profiler, and lets the tests of this crate find libtorch at run time.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rerun-if-changed=../ranks/shim/caught.hpp");
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    let lib = std::fs::canonicalize(&lib).unwrap_or(lib);
    let include = lib.with_file_name("include");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++20").warnings(false).debug(false).define("_GLIBCXX_USE_CXX11_ABI", "1");
    build.include("../ranks/shim").include(&include).include(include.join("torch/csrc/api/include"));
    build.file("shim/profiler.cpp").compile("opdflow_profiler_bridge");
    println!("cargo:rustc-link-search=native={}", lib.display());
    for library in ["torch_cpu", "c10"] {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../../.deps/libtorch/lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
