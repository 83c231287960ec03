//! The velocity network of Stable Diffusion 3 as everybody else sees it.

use super::text::{CONTEXT, POOLED};
use super::{Mmdit, Sd3};
use crate::condition::Condition;
use crate::family::Architecture;
use crate::lora::Lora;
use crate::network::{Backward, Input, Network};
use crate::schedule::TRAIN_STEPS;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// The network with the configurations of the model that it belongs to.
pub struct Sd3Network {
    /// All configurations.
    pub model: Sd3,
    /// The network.
    pub transformer: Mmdit,
}

impl Sd3Network {
    /// Time, context and pooled text as the network takes them.
    fn parts<'a>(input: &Input<'a>) -> (Tensor, &'a Tensor, &'a Tensor) {
        let of = |name: &str| input.condition.tensor(name).unwrap_or_else(|e| panic!("a bug in opdflow: {e}"));
        (input.sigma * TRAIN_STEPS, of(CONTEXT), of(POOLED))
    }
}

impl Network for Sd3Network {
    fn architecture(&self) -> &dyn Architecture {
        &self.model
    }

    fn kind(&self) -> Kind {
        self.transformer.kind()
    }

    fn device(&self) -> Device {
        self.transformer.device()
    }

    fn takes(&self, condition: &Condition) -> Result<()> {
        let t = &self.model.transformer;
        condition.fits(&[(CONTEXT, 3, t.joint_attention_dim), (POOLED, 2, t.pooled_projection_dim)])
    }

    fn velocity(&self, input: &Input, lora: Option<&Lora>) -> Tensor {
        let (time, context, pooled) = Self::parts(input);
        self.transformer.forward(input.state, &time, context, pooled, lora)
    }

    fn velocity_to_recompute<'a>(&'a self, input: &Input, lora: Option<&'a Lora>) -> (Tensor, Backward<'a>) {
        let (time, context, pooled) = Self::parts(input);
        let (out, tape) = self.transformer.forward_taped(input.state, &time, context, pooled, lora);
        (out, Box::new(move |grad| self.transformer.backward(tape, grad, lora)))
    }

    fn levels(&self, u: &Tensor, _latent: [i64; 3]) -> Tensor {
        let shift = self.model.scheduler.shift;
        u * shift / (u * (shift - 1.0) + 1.0)
    }
}
