//! What may be thrown at the readers of weights: any bytes must end in tensors or an error. The fuzzers of this folder and
//! `stages/models/tests/fuzz.rs` call these.

use opdflow_models::linears::{LinearShape, Linears};
use opdflow_models::lora::{Lora, LoraConfig};
use opdflow_models::weights::read_tensors;
use tch::Device;

/// A safetensors file.
pub fn safetensors(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.safetensors");
    std::fs::write(&path, bytes).expect("a file");
    let _ = read_tensors(&path, Device::Cpu, None);
}

/// The configuration of an adapter, beside weights that are whole.
pub fn lora(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let linears: Linears = vec![LinearShape { name: "a.to_q".to_owned(), d_in: 4, d_out: 4 }].into();
    let config = LoraConfig { rank: 2, alpha: 4.0, target_modules: vec!["to_q".to_owned()] };
    let whole = Lora::init(&config, &linears, 0, Device::Cpu).expect("an adapter");
    whole.save(folder.path()).expect("a saved adapter");
    std::fs::write(folder.path().join("adapter_config.json"), bytes).expect("a file");
    if let Ok(lora) = Lora::load(folder.path(), &linears, Device::Cpu) {
        assert!(lora.config().rank > 0);
    }
}
