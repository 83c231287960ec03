//! Says what the program calls itself; lets the program of the stages find libtorch at run time.

use std::process::Command;

fn main() {
    println!("cargo:rustc-env=OPDFLOW_PROGRAM=opdflow {}{}", env!("CARGO_PKG_VERSION"), commit());
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        let lib = std::fs::canonicalize(&lib).map(|p| p.display().to_string()).unwrap_or(lib);
        // In the archive of `make dist`, in a checkout, and where the build found it.
        println!("cargo:rustc-link-arg-bin=opdflow-stage=-Wl,-rpath,$ORIGIN/../lib/opdflow/libtorch/lib");
        println!("cargo:rustc-link-arg-bin=opdflow-stage=-Wl,-rpath,$ORIGIN/../../.deps/libtorch/lib");
        println!("cargo:rustc-link-arg-bin=opdflow-stage=-Wl,-rpath,{lib}");
    }
}

/// The commit of a release build. A debug build leaves it out, so that a commit alone compiles nothing anew.
fn commit() -> String {
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return String::new();
    }
    let git = |args: &[&str]| {
        let ran = Command::new("git").args(args).output().ok().filter(|ran| ran.status.success())?;
        Some(String::from_utf8_lossy(&ran.stdout).trim().to_owned())
    };
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|files| !files.is_empty());
    let changed = if changed { ", changed" } else { "" };
    git(&["rev-parse", "--short", "HEAD"]).map_or_else(String::new, |id| format!(" (commit {id}{changed})"))
}
