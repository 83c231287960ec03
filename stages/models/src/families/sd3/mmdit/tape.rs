//! Gradients without the memory of a whole forward pass: the blocks keep what enters them and nothing else, and each is
//! computed once more when its gradient is wanted (activation checkpointing).
//!
//! The numbers are those of an ordinary backward pass: every block sees the same inputs and the same gradient of its
//! outputs. What is saved is the inside of all blocks but one; what it costs is a second forward pass.

use super::Mmdit;
use crate::lora::Lora;
use crate::transformer::{arrived, leaf, pull};
use tch::Tensor;

/// What a forward pass leaves for its gradient.
pub struct Tape {
    latent: Tensor,
    timestep: Tensor,
    context: Tensor,
    pooled: Tensor,
    cond: Tensor,
    /// What enters each block: image and text tokens.
    inputs: Vec<(Tensor, Tensor)>,
    /// What enters the head.
    last: Tensor,
}

impl Mmdit {
    /// As [`Mmdit::forward`], without a graph behind the result: [`Mmdit::backward`] takes the gradient.
    pub fn forward_taped(
        &self,
        latent: &Tensor,
        timestep: &Tensor,
        context: &Tensor,
        pooled: &Tensor,
        lora: Option<&Lora>,
    ) -> (Tensor, Tape) {
        let _off = tch::no_grad_guard();
        let (mut x, text, cond) = self.enter(latent, timestep, context, pooled, lora);
        let mut text = Some(text);
        let mut inputs = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let Some(t) = text else { break };
            inputs.push((x.shallow_clone(), t.shallow_clone()));
            (x, text) = block.forward(x, t, &cond, lora);
        }
        let out = self.leave(&x, &cond, latent, lora);
        let own = Tensor::shallow_clone;
        let (latent, timestep, context, pooled) = (own(latent), own(timestep), own(context), own(pooled));
        (out, Tape { latent, timestep, context, pooled, cond, inputs, last: x })
    }

    /// Adds to the gradients of adapter and weights what belongs to `grad`, the gradient of the result that came with
    /// `tape`. There is none at the latent or the text. `lora` must be as it was,
    /// and gradients on.
    pub fn backward(&self, tape: Tape, grad: &Tensor, lora: Option<&Lora>) {
        let (x, cond) = (leaf(&tape.last), leaf(&tape.cond));
        pull(&self.leave(&x, &cond, &tape.latent, lora), grad).backward();
        let (mut at_x, mut at_text, mut at_cond) = (arrived(&x), None::<Tensor>, arrived(&cond));
        for (block, (x, text)) in self.blocks.iter().zip(&tape.inputs).rev() {
            let (x, text, cond) = (leaf(x), leaf(text), leaf(&tape.cond));
            let (y, text_out) = block.forward(x.shallow_clone(), text.shallow_clone(), &cond, lora);
            let mut sum = pull(&y, &at_x);
            if let (Some(out), Some(grad)) = (&text_out, &at_text) {
                sum += pull(out, grad);
            }
            sum.backward();
            (at_x, at_text) = (arrived(&x), Some(arrived(&text)));
            at_cond += arrived(&cond);
        }
        let (x, text, cond) = self.enter(&tape.latent, &tape.timestep, &tape.context, &tape.pooled, lora);
        let mut sum = pull(&x, &at_x) + pull(&cond, &at_cond);
        if let Some(grad) = at_text {
            sum += pull(&text, &grad);
        }
        // With nothing to train before the blocks there is nothing to do.
        if sum.requires_grad() {
            sum.backward();
        }
    }
}
