//! The fuzzers' targets of `fuzz/` for weights, fed with seeded changes of whole files. `PROPTEST_CASES` says how many.
#![allow(missing_docs)]

#[path = "../../../fuzz/flow.rs"]
mod flow;

use opdflow_models::weights::save_tensors;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

fn weights() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let tensor = |n: i64| Tensor::arange(n, (Kind::Float, Device::Cpu));
    save_tensors(&path, &[("a.b".into(), tensor(3)), ("c".into(), tensor(4).reshape([2, 2]))], Kind::Float).unwrap();
    std::fs::read(path).unwrap()
}

const CONFIG: &str = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["to_q"], "bias": "none",
  "use_rslora": false, "alpha_pattern": {}, "modules_to_save": null}"#;

fn changed(whole: &[u8], changes: &[(f64, u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for (at, how, with) in changes {
        let at = (bytes.len() as f64 * at) as usize;
        match how % 4 {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, with.iter().copied())),
            2 => drop(bytes.drain(at..(at + with.len()).min(bytes.len()))),
            _ => bytes.iter_mut().skip(at).zip(with).for_each(|(byte, other)| *byte ^= other & how),
        }
    }
    bytes
}

#[test]
fn whole_files_are_taken() {
    flow::safetensors(&weights());
    flow::lora(CONFIG.as_bytes());
}

proptest! {
    #[test]
    fn changed_files_are_taken_or_refused(
        changes in proptest::collection::vec((0.0..1.0, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..6)), 0..5),
    ) {
        flow::safetensors(&changed(&weights(), &changes));
        flow::lora(&changed(CONFIG.as_bytes(), &changes));
    }
}
