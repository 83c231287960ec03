//! The `opdflow` command: the one place that names the concrete stages.

use opdflow::plan::NumericFacts;
use opdflow_stage::Registry;
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
    let (mut registry, facts) = registry();
    if std::env::var_os("OPDFLOW_FAKE_STAGES").is_some_and(|v| !v.is_empty()) {
        registry = opdflow_stage::with_fakes(registry);
    }
    opdflow::cli::main(registry, facts)
}
