//! diffusers `JointTransformerBlock`.

use super::attention::Attention;
use crate::families::sd3::MmditConfig;
use crate::lora::Lora;
use crate::nn::{LayerNorm, LinearShape};
use crate::transformer::{AdaNorm, FeedForward, modulate};
use crate::weights::Scope;
use anyhow::Result;
use tch::Tensor;

const EPS: f64 = 1e-6;

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
