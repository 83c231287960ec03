//! The micro-batch that fits: halved when memory runs out, and on from the last checkpoint.

use crate::runtime::device;
use anyhow::Result;
use opdflow_api::rank::HALVINGS;
use opdflow_api::{Fault, FaultClass, StageContext};
use opdflow_models::memory::{OutOfMemory, attempt};

/// Does `work` with batches of `micro`, or of half as many, and so on, until it fits; of those that fitted at once where a checkpoint
/// knows them of such a device. Each try begins anew: it loads the
/// model and continues from the newest checkpoint. A micro-batch bounds memory and has no part in the result's meaning.
///
/// # Errors
/// What `work` says; [`FaultClass::OutOfMemory`] if a single row does not fit.
pub fn fitting(
    micro: usize,
    context: &mut StageContext,
    mut work: impl FnMut(usize, &mut StageContext) -> Result<()>,
) -> Result<()> {
    let kind = device::kind(&context.job().device);
    // How often all processes of the stage began anew because memory ran out in one of them.
    let halvings = std::env::var(HALVINGS).ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut micro = (0..halvings).fold(micro.max(1), |micro: usize, _: u32| micro.div_ceil(2));
    if halvings > 0 {
        context.settle(&kind, micro);
        say(micro, context);
    }
    // What an earlier attempt found out on such a device.
    if let Some(fitted) = context.settled(&kind).filter(|fitted| *fitted < micro) {
        micro = fitted.max(1);
        context.settle(&kind, micro);
        context.say(format!("`micro_batch: {micro}`, which fitted {kind} before"));
    }
    loop {
        let Err(OutOfMemory(said)) = attempt(|| work(micro, context))? else { return Ok(()) };
        if micro == 1 {
            let first = said.lines().next().unwrap_or_default();
            let mut fault = Fault::machine(format!("memory does not suffice for a single row: {first}"));
            fault.class = FaultClass::OutOfMemory;
            let help = "a smaller `size`, fewer images in a round, or embeddings kept by `embed`; `opdflow plan` says what takes memory";
            return Err(fault.help(help).into());
        }
        if context.rank().is_some() {
            // The others wait for this one's part of the work: all begin anew, and the first of them says so.
            return Err(context.halve());
        }
        micro = micro.div_ceil(2);
        context.settle(&kind, micro);
        say(micro, context);
    }
}

fn say(micro: usize, context: &StageContext) {
    context.say(format!("memory ran out; going on from the last checkpoint with `micro_batch: {micro}`"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_api::cache::{Digest, Store};
    use opdflow_api::{Description, Event, EventSink, Job, Outcome, Output, Stage, StopFlag, Workers, run_job};
    use serde::{Deserialize, Serialize};
    use std::path::Path;
    use std::sync::{Arc, Mutex};
    use tch::{Device, Kind, Tensor};

    /// A stage that asks libtorch for more memory than there is, unless its batch is small enough.
    struct Hungry;

    #[derive(Clone, Serialize, Deserialize, schemars::JsonSchema)]
    struct Params {
        micro: usize,
        fits: usize,
    }

    impl Stage for Hungry {
        type Params = Params;
        fn describe(&self) -> Description {
            Description {
                kind: "hungry",
                semantics: 1,
                about: "",
                inputs: &[],
                outputs: const { &[Output::new("micro", "text", "what fitted")] },
                outside_key: &[],
                seeded: false,
                numeric: false,
            }
        }
    }

    fn eat(params: Params, context: &mut StageContext) -> Result<()> {
        fitting(params.micro, context, |micro, context| {
            let rows = if micro > params.fits { 1 << 50 } else { micro as i64 };
            let x = tch::no_grad(|| Tensor::zeros([rows], (Kind::Float, Device::Cpu))).set_requires_grad(true);
            // A panic inside `no_grad` would leave gradients off for the next try.
            assert!((&x * 2.0).requires_grad());
            std::fs::write(context.output("micro"), micro.to_string())?;
            context.checkpoint(1, |_| Ok(()))
        })
    }

    /// How the stage ended, what it left, and what it said.
    fn end(micro: usize, fits: usize) -> (Outcome, Option<String>, String) {
        attempt(tempfile::tempdir().unwrap().path(), "key", micro, fits)
    }

    fn attempt(folder: &Path, key: &str, micro: usize, fits: usize) -> (Outcome, Option<String>, String) {
        let store = Store::open(folder).unwrap();
        let (key, lineage) = (Digest::of(key.as_bytes()), Digest::of(b"lineage"));
        let job = Job {
            name: "hungry".to_owned(),
            kind: "hungry".to_owned(),
            params: serde_json::to_value(Params { micro, fits }).unwrap(),
            inputs: Default::default(),
            seed: 0,
            key,
            lineage,
            manifest: serde_json::Value::Null,
            threads: 1,
            ranks: 1,
            deadline_seconds: 60.0,
            samples: None,
            device: "cpu".to_owned(),
            folder: folder.to_owned(),
            store: folder.to_owned(),
            environment: opdflow_api::Environment::new(),
            checkpoint_seconds: 60.0,
            force: false,
            program: String::new(),
            doubts: Vec::new(),
            note: Default::default(),
        };
        let said = Arc::new(Mutex::new(String::new()));
        let sink = said.clone();
        let events = EventSink::new(move |event| {
            if let Event::Said { text } = event {
                *sink.lock().unwrap() += &format!("{text}\n");
            }
        });
        let outcome = run_job(
            &**Workers::new().with(Hungry, eat).get("hungry").unwrap(),
            &job,
            None,
            &events,
            &StopFlag::default(),
        );
        let left = store
            .action(&key)
            .unwrap()
            .map(|record| String::from_utf8(store.read(&record.outputs["micro"].object.digest).unwrap()).unwrap());
        let said = said.lock().unwrap().clone();
        (outcome, left, said)
    }

    #[test]
    fn a_batch_that_does_not_fit_is_halved_until_it_does() {
        let (outcome, left, said) = end(10, 3);
        assert_eq!(outcome, Outcome::Published { found: false });
        assert_eq!(left.as_deref(), Some("3"));
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(said.contains("`micro_batch: 5`") && said.contains("`micro_batch: 3`"), "{said}");
        assert_eq!(end(10, 10).2, "", "nothing is said of what fits");
    }

    #[test]
    fn what_fitted_before_is_tried_first() {
        let folder = tempfile::tempdir().unwrap();
        attempt(folder.path(), "first", 10, 3);
        // A longer run of the same lineage, which goes on from the first one's checkpoint.
        let (_, left, said) = attempt(folder.path(), "second", 10, 3);
        assert_eq!((left.as_deref(), said.as_str()), (Some("3"), "`micro_batch: 3`, which fitted cpu before\n"));
        // And it is kept on, though nothing ran out of memory that time; fewer rows that somebody asks for are fewer rows.
        let (_, left, _) = attempt(folder.path(), "third", 10, 10);
        assert_eq!(left.as_deref(), Some("3"));
        let (_, left, said) = attempt(folder.path(), "fourth", 2, 10);
        assert_eq!((left.as_deref(), said.as_str()), (Some("2"), ""));
    }

    #[test]
    fn a_single_row_that_does_not_fit_is_the_end() {
        let (outcome, left, said) = end(2, 0);
        let Outcome::Failed(class, message) = outcome else { panic!("{outcome:?}") };
        assert_eq!((class, left), (FaultClass::OutOfMemory, None));
        assert!(
            message.contains("single row") && message.contains("embed") && message.contains("allocate"),
            "{message}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
