//! The state of a training run as named tensors in one safetensors file.

use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Tensor, no_grad};

/// Named tensors of a checkpoint.
pub struct State(BTreeMap<String, Tensor>);

impl State {
    /// Reads a file that [`State::write`] wrote.
    ///
    /// # Errors
    /// The file cannot be read or is not a safetensors file.
    pub fn read(path: &Path) -> Result<Self> {
        let tensors = Tensor::read_safetensors(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self(tensors.into_iter().collect()))
    }

    /// Writes `tensors`, sorted by name.
    ///
    /// # Errors
    /// The disk is full or not writable.
    pub fn write(path: &Path, mut tensors: Vec<(String, Tensor)>) -> Result<()> {
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let tensors: Vec<(String, Tensor)> =
            tensors.into_iter().map(|(n, t)| (n, t.detach().to_device(tch::Device::Cpu).contiguous())).collect();
        let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        Tensor::write_safetensors(&named, path).with_context(|| format!("writing {}", path.display()))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).with_context(|| format!("the checkpoint has no tensor `{name}`"))
    }

    /// Copies the tensor of this name into `into`.
    ///
    /// # Errors
    /// There is none, or its shape differs.
    pub fn copy_into(&self, name: &str, into: &mut Tensor) -> Result<()> {
        let from = self.get(name)?;
        ensure!(
            from.size() == into.size(),
            "checkpoint tensor `{name}` has shape {:?}, expected {:?}",
            from.size(),
            into.size()
        );
        no_grad(|| into.copy_(from));
        Ok(())
    }
}

/// Parameters under names of their own: `prefix.0000`, ...
#[must_use]
pub fn numbered(prefix: &str, tensors: &[Tensor]) -> Vec<(String, Tensor)> {
    tensors.iter().enumerate().map(|(i, t)| (format!("{prefix}.{i:04}"), t.shallow_clone())).collect()
}
