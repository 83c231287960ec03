//! diffusers `JointTransformerBlock` and its adaptive norms.

use super::MmditConfig;
use super::attention::Attention;
use crate::init::Init;
use crate::lora::Lora;
use crate::nn::{LayerNorm, Linear, LinearShape};
use crate::weights::Scope;
use anyhow::Result;
use tch::Tensor;

const EPS: f64 = 1e-6;

/// A norm without weights whose output is scaled and shifted by the conditioning: `AdaLayerNormZero`,
/// `SD35AdaLayerNormZeroX` and `AdaLayerNormContinuous` differ in the number and order of the parts alone.
pub(crate) struct AdaNorm {
    linear: Linear,
    parts: i64,
}

impl AdaNorm {
    /// Fresh weights are zero: every block starts as the identity.
    pub(crate) fn new(scope: &Scope, d: i64, parts: i64) -> Result<AdaNorm> {
        Ok(AdaNorm { linear: Linear::new(&scope.sub("linear"), d, parts * d, true, Init::Zeros)?, parts })
    }

    /// The parts, each `[B, 1, D]`, of the activated conditioning `[B, D]`.
    pub(crate) fn parts(&self, cond: &Tensor, lora: Option<&Lora>) -> Vec<Tensor> {
        self.linear.forward(cond, lora).unsqueeze(1).chunk(self.parts, -1)
    }

    pub(crate) fn linears(&self, out: &mut Vec<LinearShape>) {
        out.push(self.linear.shape());
    }
}

/// x (1 + scale) + shift.
pub(crate) fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Tensor {
    shift.addcmul(x, &(scale + 1.0))
}

/// diffusers `FeedForward` with `gelu-approximate` and four times the width inside.
pub(crate) struct FeedForward {
    up: Linear,
    down: Linear,
}

impl FeedForward {
    pub(crate) fn new(scope: &Scope, d: i64) -> Result<FeedForward> {
        let up = Linear::new(&scope.sub("net.0.proj"), d, 4 * d, true, Init::Xavier)?;
        Ok(FeedForward { up, down: Linear::new(&scope.sub("net.2"), 4 * d, d, true, Init::Xavier)? })
    }

    pub(crate) fn forward(&self, x: &Tensor, lora: Option<&Lora>) -> Tensor {
        self.down.forward(&self.up.forward(x, lora).gelu("tanh"), lora)
    }

    pub(crate) fn linears(&self, out: &mut Vec<LinearShape>) {
        out.extend([self.up.shape(), self.down.shape()]);
    }
}

/// One joint block. The last one (`context_pre_only` upstream) reads the text and does not pass it on.
pub(super) struct JointBlock {
    norm1: AdaNorm,
    norm1_context: AdaNorm,
    attn: Attention,
    attn2: Option<Attention>,
    plain: LayerNorm,
    ff: FeedForward,
    ff_context: Option<FeedForward>,
}

impl JointBlock {
    pub(super) fn new(scope: &Scope, config: &MmditConfig, layer: i64) -> Result<JointBlock> {
        let (d, heads, normed) = (config.width(), config.num_attention_heads, config.normed());
        let last = layer == config.num_layers - 1;
        let dual = config.dual_attention_layers.contains(&layer);
        Ok(JointBlock {
            norm1: AdaNorm::new(&scope.sub("norm1"), d, if dual { 9 } else { 6 })?,
            norm1_context: AdaNorm::new(&scope.sub("norm1_context"), d, if last { 2 } else { 6 })?,
            attn: Attention::joint(&scope.sub("attn"), d, heads, normed, last)?,
            attn2: if dual { Some(Attention::single(&scope.sub("attn2"), d, heads, normed)?) } else { None },
            plain: LayerNorm::plain(d, EPS),
            ff: FeedForward::new(&scope.sub("ff"), d)?,
            ff_context: if last { None } else { Some(FeedForward::new(&scope.sub("ff_context"), d)?) },
        })
    }

    /// Image `[B, N, D]`, text `[B, L, D]`, activated conditioning `[B, D]` to image and text; no text after the last block.
    pub(super) fn forward(
        &self,
        x: Tensor,
        text: Tensor,
        cond: &Tensor,
        lora: Option<&Lora>,
    ) -> (Tensor, Option<Tensor>) {
        let m = self.norm1.parts(cond, lora);
        let c = self.norm1_context.parts(cond, lora);
        let normed = self.plain.forward(&x);
        let normed_text = self.plain.forward(&text);
        // The last block's norm has (scale, shift) where the others have (shift, scale, ..).
        let (c_shift, c_scale) = if self.ff_context.is_some() { (&c[0], &c[1]) } else { (&c[1], &c[0]) };
        let text_in = modulate(&normed_text, c_shift, c_scale);
        let (y, text_y) = self.attn.forward_joint(&modulate(&normed, &m[0], &m[1]), &text_in, lora);
        let mut x = x.addcmul(&m[2], &y);
        if let Some(attn2) = &self.attn2 {
            x = x.addcmul(&m[8], &attn2.forward(&modulate(&normed, &m[6], &m[7]), lora));
        }
        let y = self.ff.forward(&modulate(&self.plain.forward(&x), &m[3], &m[4]), lora);
        let x = x.addcmul(&m[5], &y);
        let (Some(ff), Some(text_y)) = (&self.ff_context, text_y) else { return (x, None) };
        let text = text.addcmul(&c[2], &text_y);
        let y = ff.forward(&modulate(&self.plain.forward(&text), &c[3], &c[4]), lora);
        (x, Some(text.addcmul(&c[5], &y)))
    }

    pub(super) fn linears(&self, out: &mut Vec<LinearShape>) {
        self.norm1.linears(out);
        self.norm1_context.linears(out);
        self.attn.linears(out);
        if let Some(attn2) = &self.attn2 {
            attn2.linears(out);
        }
        self.ff.linears(out);
        if let Some(ff) = &self.ff_context {
            ff.linears(out);
        }
    }
}
