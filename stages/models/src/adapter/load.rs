//! Adapters by what is read.

use crate::linears::Linears;
use crate::lora::Lora;
use anyhow::Result;
use std::path::Path;
use tch::Device;

impl Lora {
    /// Reads an adapter in any published form, for a model with these linear layers, f32 and without
    /// gradients.
    ///
    /// # Errors
    /// As for [`crate::adapter::read`].
    pub fn load(path: impl AsRef<Path>, linears: &Linears, device: Device) -> Result<Lora> {
        Ok(super::read(path.as_ref(), linears, device)?.lora)
    }

    /// Reads an adapter whose layers are all that is known of its model: a peft folder as [`Lora::save`] writes it, which
    /// has diffusers' own names and both matrices of every layer.
    ///
    /// # Errors
    /// As for [`crate::adapter::read`].
    pub fn load_own(path: impl AsRef<Path>, device: Device) -> Result<Lora> {
        let linears = super::linears_of(path.as_ref())?;
        Lora::load(path, &linears.into(), device)
    }
}
