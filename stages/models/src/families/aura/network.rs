//! The velocity network of AuraFlow as everybody else sees it.

use super::text::CONTEXT;
use super::{At, Aura, AuraModel};
use crate::condition::Condition;
use crate::family::Architecture;
use crate::lora::Lora;
use crate::network::{Backward, Input, Network};
use crate::schedule::TRAIN_STEPS;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// The network with the configurations of the model that it belongs to.
pub struct AuraNetwork {
    /// All configurations.
    pub model: AuraModel,
    /// The network.
    pub transformer: Aura,
}

impl AuraNetwork {
    /// Where the velocity is asked for, with the time that the network takes.
    fn at<'a>(input: &Input<'a>, time: &'a Tensor) -> At<'a> {
        let context = input.condition.tensor(CONTEXT).unwrap_or_else(|e| panic!("a bug in opdflow: {e}"));
        At { latent: input.state, time, context }
    }
}

/// The time of a noise level as the pipeline hands it on, which is not the level to the last bit.
fn time(sigma: &Tensor) -> Tensor {
    sigma * TRAIN_STEPS / TRAIN_STEPS
}

impl Network for AuraNetwork {
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
        condition.fits(&[(CONTEXT, 3, self.model.transformer.joint_attention_dim)])
    }

    fn velocity(&self, input: &Input, lora: Option<&Lora>) -> Tensor {
        self.transformer.forward(Self::at(input, &time(input.sigma)), lora)
    }

    fn velocity_to_recompute<'a>(&'a self, input: &Input, lora: Option<&'a Lora>) -> (Tensor, Backward<'a>) {
        let (out, tape) = self.transformer.forward_taped(Self::at(input, &time(input.sigma)), lora);
        (out, Box::new(move |grad| self.transformer.backward(tape, grad, lora)))
    }

    fn levels(&self, u: &Tensor, _latent: [i64; 3]) -> Tensor {
        let shift = self.model.scheduler.shift;
        u * shift / (u * (shift - 1.0) + 1.0)
    }
}
