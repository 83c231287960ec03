//! The state of a training run as named tensors in one safetensors file.

use anyhow::{Context as _, Result, ensure};
use opdflow_models::finite::{NotFinite, first_broken};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Tensor, no_grad};

/// Named tensors of a checkpoint.
pub struct State(BTreeMap<String, Tensor>);

impl State {
    /// Reads a file that [`State::write`] wrote.
    ///
    /// # Errors
    /// The file cannot be read or is not a safetensors file; a tensor is not finite.
    pub fn read(path: &Path) -> Result<Self> {
        let tensors = Tensor::read_safetensors(path).with_context(|| format!("reading {}", path.display()))?;
        whole(&tensors).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self(tensors.into_iter().collect()))
    }

    /// Writes `tensors`, sorted by name.
    ///
    /// # Errors
    /// A tensor that is not finite: nothing is written then. The disk is full or not writable.
    pub fn write(path: &Path, mut tensors: Vec<(String, Tensor)>) -> Result<()> {
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let tensors: Vec<(String, Tensor)> =
            tensors.into_iter().map(|(n, t)| (n, t.detach().to_device(tch::Device::Cpu).contiguous())).collect();
        whole(&tensors)?;
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

    /// The tensors whose names begin with `prefix`, without it.
    #[must_use]
    pub fn below(&self, prefix: &str) -> Self {
        let of =
            |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone()));
        Self(self.0.iter().filter_map(of).collect())
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

/// Fails at the first of these tensors that is not finite.
fn whole(tensors: &[(String, Tensor)]) -> Result<()> {
    match first_broken(tensors.iter().map(|(_, t)| t)) {
        None => Ok(()),
        Some(i) => Err(NotFinite::new(format!("`{}` of the training's state", tensors[i].0)).into()),
    }
}

/// Parameters under names of their own: `prefix.0000`, ...
#[must_use]
pub fn numbered(prefix: &str, tensors: &[Tensor]) -> Vec<(String, Tensor)> {
    tensors.iter().enumerate().map(|(i, t)| (format!("{prefix}.{i:04}"), t.shallow_clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_not_finite_is_neither_written_nor_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let of = |bad: f32| vec![("ema.0000".to_owned(), Tensor::from_slice(&[1.0, bad]))];
        State::write(&path, of(2.0)).unwrap();
        let kept = std::fs::read(&path).unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let error = State::write(&path, of(bad)).unwrap_err();
            assert!(error.is::<NotFinite>() && error.to_string().contains("`ema.0000`"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), kept);
            Tensor::write_safetensors(&[("ema.0000", &of(bad)[0].1)], &path).unwrap();
            let error = State::read(&path).err().unwrap();
            assert!(error.chain().any(|c| c.is::<NotFinite>()), "{error:#}");
            std::fs::write(&path, &kept).unwrap();
        }
        State::read(&path).unwrap();
    }
}
