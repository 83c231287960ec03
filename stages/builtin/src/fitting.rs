//! The micro-batch that fits: halved when memory runs out, and on from the last checkpoint.

use anyhow::Result;
use opdflow_stage::{Fault, FaultClass, StageContext};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What libtorch says when memory runs out, on a GPU and on a CPU.
const WORDS: [&str; 4] = ["out of memory", "can't allocate memory", "not enough memory", "bad_alloc"];

/// Does `work` with batches of `micro`, or of half as many, and so on, until it fits. Each try begins anew: it loads the
/// model and continues from the newest checkpoint. A micro-batch bounds memory and has no part in the result's meaning.
///
/// # Errors
/// What `work` says; [`FaultClass::OutOfMemory`] if a single row does not fit.
pub fn fitting(
    micro: usize,
    context: &mut StageContext,
    mut work: impl FnMut(usize, &mut StageContext) -> Result<()>,
) -> Result<()> {
    let mut micro = micro.max(1);
    loop {
        // libtorch throws, and its binding panics. All tensors are dropped on the way out; gradients are on again.
        let end = catch_unwind(AssertUnwindSafe(|| tch::with_grad(|| work(micro, context))));
        let said = match &end {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => words(panic.as_ref()),
        };
        if !WORDS.iter().any(|w| said.contains(w)) {
            return end.unwrap_or_else(|panic| resume_unwind(panic));
        }
        if micro == 1 {
            let first = said.lines().next().unwrap_or_default();
            let mut fault = Fault::machine(format!("memory does not suffice for a single row: {first}"));
            fault.class = FaultClass::OutOfMemory;
            let help = "a smaller `size`, fewer pictures in a round, or embeddings kept by `embed`; `opdflow plan` says what takes memory";
            return Err(fault.help(help).into());
        }
        micro = micro.div_ceil(2);
        context.say(format!("memory ran out; going on from the last checkpoint with `micro_batch: {micro}`"));
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or_default().to_owned()
}
