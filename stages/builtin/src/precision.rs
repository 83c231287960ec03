//! The number format that a frozen base computes in. An adapter's weights, their gradients and moments, losses, noise
//! and latents are f32 whatever it is, and so is the autoencoder.

use opdflow_stage::ParamFault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Kind;

/// A number format, by the name that recipes and command lines use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of 32: 8 bits of mantissa.
    Bf16,
    /// 16 bits with 11 of mantissa and a small range.
    F16,
}

impl Precision {
    /// As libtorch names it.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
        }
    }

    /// Whether it is the one that is left out of keys, so that a recipe that does not name it keeps its results.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Why nothing can be trained in it, if so.
    pub fn untrainable(self) -> Option<ParamFault> {
        (self == Self::F16).then(|| {
            ParamFault::new("precision", "gradients of single numbers are too small for `f16`")
                .help("use `bf16`; `f16` is for evaluation")
        })
    }
}
