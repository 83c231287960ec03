//! Gradients without the memory of a whole forward pass, as in activation checkpointing: the blocks keep what enters them and nothing
//! else, and each is computed once more when its gradient is wanted.

use super::transformer::Entered;
use super::{At, Aura, REGISTERS};
use crate::lora::Lora;
use crate::transformer::{arrived, leaf, pull};
use tch::Tensor;

/// What a forward pass leaves for its gradient.
pub struct AuraTape {
    latent: Tensor,
    time: Tensor,
    context: Tensor,
    cond: Tensor,
    /// What enters each joint block: image and text tokens.
    joint: Vec<(Tensor, Tensor)>,
    /// What enters each single block: text and image tokens.
    single: Vec<Tensor>,
    /// What enters the head.
    last: Tensor,
}

impl Aura {
    /// As [`Aura::forward`], without a graph behind the result: [`Aura::backward`] takes the gradient.
    pub fn forward_taped(&self, at: At, lora: Option<&Lora>) -> (Tensor, AuraTape) {
        let _off = tch::no_grad_guard();
        let Entered { mut x, mut text, cond } = self.enter(at, lora);
        let mut joint = Vec::with_capacity(self.joint.len());
        for block in &self.joint {
            joint.push((x.shallow_clone(), text.shallow_clone()));
            (x, text) = block.forward(&x, &text, &cond, lora);
        }
        let mut both = Tensor::cat(&[&text, &x], 1);
        let mut single = Vec::with_capacity(self.singles.len());
        for block in &self.singles {
            single.push(both.shallow_clone());
            both = block.forward(&both, &cond, lora);
        }
        let out = self.leave(&both, &cond, at, lora);
        let own = Tensor::shallow_clone;
        let (latent, time, context) = (own(at.latent), own(at.time), own(at.context));
        (out, AuraTape { latent, time, context, cond, joint, single, last: both })
    }

    /// Adds to the gradients of adapter and weights what belongs to `grad`, the gradient of the result that came with
    /// `tape`. There is none at the latent or the text. `lora` must be as it was, and gradients on.
    pub fn backward(&self, tape: AuraTape, grad: &Tensor, lora: Option<&Lora>) {
        let at = At { latent: &tape.latent, time: &tape.time, context: &tape.context };
        let (both, cond) = (leaf(&tape.last), leaf(&tape.cond));
        pull(&self.leave(&both, &cond, at, lora), grad).backward();
        let (mut at_both, mut at_cond) = (arrived(&both), arrived(&cond));
        for (block, both) in self.singles.iter().zip(&tape.single).rev() {
            let (both, cond) = (leaf(both), leaf(&tape.cond));
            pull(&block.forward(&both, &cond, lora), &at_both).backward();
            at_both = arrived(&both);
            at_cond += arrived(&cond);
        }
        let text = REGISTERS + tape.context.size()[1];
        let mut at_text = at_both.narrow(1, 0, text);
        let mut at_x = at_both.narrow(1, text, at_both.size()[1] - text);
        for (block, (x, text)) in self.joint.iter().zip(&tape.joint).rev() {
            let (x, text, cond) = (leaf(x), leaf(text), leaf(&tape.cond));
            let (y, words) = block.forward(&x, &text, &cond, lora);
            (pull(&y, &at_x) + pull(&words, &at_text)).backward();
            (at_x, at_text) = (arrived(&x), arrived(&text));
            at_cond += arrived(&cond);
        }
        let entered = self.enter(at, lora);
        let sum = pull(&entered.x, &at_x) + pull(&entered.cond, &at_cond) + pull(&entered.text, &at_text);
        // With nothing to train before the blocks there is nothing to do.
        if sum.requires_grad() {
            sum.backward();
        }
    }
}
