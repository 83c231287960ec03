//! The velocity network of FLUX.1 as everybody else sees it.

use super::text::{CONTEXT, POOLED};
use super::{At, Flux, FluxModel};
use crate::condition::Condition;
use crate::family::Architecture;
use crate::lora::Lora;
use crate::network::{Backward, Input, Network};
use crate::schedule::{SchedulerConfig, TRAIN_STEPS};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// The network with the configurations of the model that it belongs to.
pub struct FluxNetwork {
    /// All configurations.
    pub model: FluxModel,
    /// The network.
    pub transformer: Flux,
}

impl FluxNetwork {
    /// Where the velocity is asked for, with the time that the network takes.
    fn at<'a>(&self, input: &Input<'a>, timestep: &'a Tensor) -> At<'a> {
        let bug = |e: anyhow::Error| -> ! { panic!("a bug in opdflow: {e}") };
        let of = |name: &str| input.condition.tensor(name).unwrap_or_else(|e| bug(e));
        let guidance = self.model.transformer.guidance(input.guidance).unwrap_or_else(|e| bug(e));
        At { latent: input.state, timestep, context: of(CONTEXT), pooled: of(POOLED), guidance }
    }
}

impl Network for FluxNetwork {
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
        let timestep = input.sigma * TRAIN_STEPS;
        self.transformer.forward(self.at(input, &timestep), lora)
    }

    fn velocity_to_recompute<'a>(&'a self, input: &Input, lora: Option<&'a Lora>) -> (Tensor, Backward<'a>) {
        let timestep = input.sigma * TRAIN_STEPS;
        let (out, tape) = self.transformer.forward_taped(self.at(input, &timestep), lora);
        (out, Box::new(move |grad| self.transformer.backward(tape, grad, lora)))
    }

    fn levels(&self, u: &Tensor, latent: [i64; 3]) -> Tensor {
        levels(&self.model.scheduler, u, self.model.transformer.image_tokens(latent[1], latent[2]))
    }
}

/// The levels that training sees for `u`, `[B]` f32 in 0 to 1: those that sampling visits for this many image tokens.
fn levels(scheduler: &SchedulerConfig, u: &Tensor, image_tokens: i64) -> Tensor {
    let shift = scheduler.shift_for(image_tokens);
    u * shift / (u * (shift - 1.0) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_is_at_the_levels_of_sampling() {
        let c = SchedulerConfig { use_dynamic_shifting: true, ..SchedulerConfig::default() };
        let schedule = c.handed(4, 1024);
        let found: Vec<f32> =
            Vec::try_from(levels(&c, &Tensor::from_slice(&[1.0f32, 0.75, 0.5, 0.25, 0.0]), 1024)).unwrap();
        for (found, expected) in found.iter().zip(schedule.sigmas()) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}
