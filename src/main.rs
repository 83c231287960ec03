//! The `opdflow` command: the engine with what the concrete stages say of themselves. What nearly all
//! of them do is in `opdflow-stage`, so that this program starts without libtorch.

use opdflow::plan::NumericFacts;
use opdflow_stage::{Registry, Workers, with_fakes};
use std::process::ExitCode;

#[cfg(feature = "torch")]
fn kinds() -> (Registry, Workers, NumericFacts) {
    // The version that this pin of tch builds against; its build script refuses any other.
    let facts = NumericFacts { libtorch: "2.11.0".into(), ..NumericFacts::default() };
    (opdflow_stages::registry(), opdflow_stages::light(), facts)
}

#[cfg(not(feature = "torch"))]
fn kinds() -> (Registry, Workers, NumericFacts) {
    (Registry::new(), Workers::new(), NumericFacts::default())
}

fn main() -> ExitCode {
    let (mut registry, mut workers, facts) = kinds();
    if std::env::var_os("OPDFLOW_FAKE_STAGES").is_some_and(|v| !v.is_empty()) {
        registry = with_fakes(registry);
        workers = with_fakes(workers);
    }
    opdflow::cli::main(registry, workers, facts)
}
