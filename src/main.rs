//! The `opdflow` command: the engine with what the concrete stages say of themselves. What nearly all
//! of them do is in `opdflow-stage`: no crate of this program needs libtorch.

use opdflow::plan::NumericFacts;
use opdflow_api::{with_fake_workers, with_fakes};
use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut registry, mut workers) = (opdflow_kinds::registry(), opdflow_kinds::light());
    if std::env::var_os("OPDFLOW_FAKE_STAGES").is_some_and(|v| !v.is_empty()) {
        registry = with_fakes(registry);
        workers = with_fake_workers(workers);
    }
    let facts = NumericFacts { libtorch: opdflow_kinds::LIBTORCH.into(), ..NumericFacts::default() };
    opdflow::cli::main(registry, workers, facts)
}
