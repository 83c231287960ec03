//! The number format that a frozen base computes in. An adapter's weights, their gradients and moments, losses, noise
//! and latents are f32 whatever it is, and so is the autoencoder.

use opdflow_api::{Environment, ParamFault};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number format of the frozen base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 32 bits, but on a GPU products of matrices may be taken with 11 bits of mantissa (TF32). On a CPU as `f32`.
    Tf32,
    /// 16 bits with the range of 32: 8 bits of mantissa.
    Bf16,
    /// 16 bits with 11 of mantissa and a small range.
    F16,
}

impl Precision {
    /// What libtorch must find in its environment when it loads. Of its allocator, that pieces of memory may grow: batches
    /// of different sizes leave no holes then.
    #[must_use]
    pub fn environment(self) -> Environment {
        let allocator = ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True");
        let tf32 = (self == Self::Tf32).then_some(("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1"));
        std::iter::once(allocator).chain(tf32).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
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
