//! The program of one stage's process: the concrete stages, and libtorch with them. `opdflow` starts it.

use std::process::ExitCode;

fn main() -> ExitCode {
    opdflow::cli::stage_main(&opdflow_stages::workers())
}
