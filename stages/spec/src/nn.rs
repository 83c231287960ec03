//! What configurations name of the layers that models are built of.

use serde::Deserialize;

/// Channels of the sinusoidal time code, fixed in the upstream classes.
pub const TIME_CHANNELS: i64 = 256;

/// The activation functions that the supported configurations name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Activation {
    /// x * sigmoid(1.702 x), as in the first CLIP.
    #[serde(rename = "quick_gelu")]
    QuickGelu,
    /// The exact GELU.
    #[serde(rename = "gelu")]
    Gelu,
    /// The tanh approximation of GELU.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh")]
    GeluTanh,
    /// max(x, 0).
    #[serde(rename = "relu")]
    Relu,
    /// x * sigmoid(x).
    #[serde(rename = "silu", alias = "swish")]
    Silu,
}
