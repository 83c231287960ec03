//! The program of one stage's process, or of a tool's: the concrete stages, and libtorch with them. `opdflow` starts it.

use std::process::ExitCode;

fn main() -> ExitCode {
    opdflow::cli::stage_main(&opdflow_worker::workers(), &opdflow_worker::tools())
}
