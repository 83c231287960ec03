//! Lets the binaries and tests of this crate find libtorch at run time, and the engine's binary do without it.
fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        let lib = std::fs::canonicalize(&lib).map(|p| p.display().to_string()).unwrap_or(lib);
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../../.deps/libtorch/lib");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        // `opdflow` reaches no code that uses libtorch, so the linker leaves that code out, and then the library too.
        // But torch-sys's C++ has copies of inline functions of libtorch, and a program exports what a library of its
        // link may look for in it; what is exported stays. This exports nothing. See docs/adr/0007.
        println!("cargo:rustc-link-arg-bin=opdflow=-Wl,--exclude-libs,ALL");
    }
}
