//! No step of a round waits for a GPU: a number that is read out of a tensor waits for all that was asked for before it. Counted on a CPU,
//! where nothing waits, by libtorch's profiler.

use super::rig::{MERGED, Method, Rig};
use opdflow_profiler::profiled;
use opdflow_training::optim::{AdamW, AdamWConfig, EmaConfig};
use opdflow_training::train::{Learner, LrSchedule};

/// Most numbers that an update of a round may read, whatever its size: its metrics and the gradient's norm.
const MOST: u64 = 4;

/// Numbers read in a round of `method` in micro-batches of `micro`, and in how many updates.
fn read(method: Method, micro: i64) -> (u64, u64) {
    let rig = Rig::new();
    let lora = rig.lora(MERGED, 3);
    let folder = tempfile::tempdir().unwrap();
    method.with(&rig, &lora, micro, |objective| {
        let optimizer = AdamW::new(AdamWConfig::default(), lora.parameters());
        let mut learner = Learner::new(lora.parameters(), optimizer, EmaConfig::default(), LrSchedule::default());
        let updates = objective.updates(0);
        let work = || learner.round(objective).map(drop);
        (profiled(false, &folder.path().join("trace"), work).unwrap().1.numbers_read, updates as u64)
    })
}

#[test]
fn a_round_reads_as_many_numbers_however_many_micro_batches_it_has() {
    for method in Method::ALL {
        // A round has 24 images of a teacher, or 10 of a student, in four steps.
        let ((whole, updates), (parts, _)) = (read(method, 100), read(method, 4));
        println!("{method:?}: {whole} and {parts} numbers in {updates} updates");
        assert_eq!(whole, parts, "{method:?}: each micro-batch reads a number");
        assert!(whole <= MOST * updates + MOST, "{method:?}: {whole} numbers in {updates} updates");
    }
}

/// What cannot be counted without a GPU: a tensor that goes there by `to_device` waits for all that was asked for before.
#[test]
fn what_rounds_send_to_a_gpu_goes_without_waiting() {
    let stages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files: Vec<_> =
        std::fs::read_dir(stages.join("training/src")).unwrap().map(|e| e.unwrap().path()).collect();
    files.extend(["rng", "field", "rollout", "solver", "transfer"].map(|n| stages.join(format!("models/src/{n}.rs"))));
    assert!(files.len() > 20);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().filter(|l| !l.trim_start().starts_with("//") && l.contains(".to_device(")) {
            // Back to the CPU it must wait; `send` itself has nothing to send where it says so.
            let back = line.contains("Device::Cpu)") || line.trim() == "_ => t.to_device(device),";
            assert!(back, "{}: {line}: `transfer::send`", file.display());
        }
    }
}
