//! The `opdflow` command: the engine with what the concrete stages say of themselves. What they do is in
//! `opdflow-stage`, so that this program starts without libtorch.

use opdflow::plan::NumericFacts;
use opdflow_stage::{Registry, Workers, with_fakes};
use std::process::ExitCode;

#[cfg(feature = "torch")]
fn registry() -> (Registry, NumericFacts) {
    // The version that this pin of tch builds against; its build script refuses any other.
    (opdflow_stages::registry(), NumericFacts { libtorch: "2.11.0".into(), ..NumericFacts::default() })
}

#[cfg(not(feature = "torch"))]
fn registry() -> (Registry, NumericFacts) {
    (Registry::new(), NumericFacts::default())
}

fn main() -> ExitCode {
    let ((mut registry, facts), mut workers) = (registry(), Workers::new());
    if std::env::var_os("OPDFLOW_FAKE_STAGES").is_some_and(|v| !v.is_empty()) {
        registry = with_fakes(registry);
        workers = with_fakes(workers);
    }
    opdflow::cli::main(registry, workers, facts)
}
