//! The linear stack that makes one number of an embedding: LAION's aesthetic predictor, and after it ImageReward.

use anyhow::Result;
use opdflow_models::init::Init;
use opdflow_models::nn::Linear;
use opdflow_models::weights::Scope;
use tch::Tensor;

/// Number of a layer in the published `Sequential`, in which dropouts are counted too, and its width there. The file may
/// say otherwise, but for the last.
const LAYERS: [(usize, i64); 5] = [(0, 1024), (2, 128), (4, 64), (6, 16), (7, 1)];

/// Five linear layers with nothing between them.
pub struct Head(Vec<Linear>);

impl Head {
    /// Takes `layers.0` to `layers.7` from `scope`; `width` is that of the embedding.
    ///
    /// # Errors
    /// A tensor is missing or of another shape.
    pub fn new(scope: &Scope, mut width: i64) -> Result<Head> {
        let layer = |(number, out)| {
            let own = scope.sub("layers").sub(number);
            let found = own.shape("weight").and_then(|shape| shape.first().copied());
            let out = if out == 1 { 1 } else { found.unwrap_or(out) };
            let layer = Linear::new(&own, width, out, true, Init::FanIn);
            width = out;
            layer
        };
        Ok(Head(LAYERS.into_iter().map(layer).collect::<Result<_>>()?))
    }

    /// `[B, width]` to `[B, 1]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, layer| layer.forward(&x, None))
    }
}
