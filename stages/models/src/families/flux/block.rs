//! diffusers `FluxTransformerBlock` and `FluxSingleTransformerBlock`.

use super::FluxConfig;
use super::rope::Angles;
use crate::init::Init;
use crate::lora::Lora;
use crate::nn::{LayerNorm, Linear, LinearShape};
use crate::transformer::{AdaNorm, FeedForward, modulate};
use crate::transformer::{Projection, attend};
use crate::weights::Scope;
use anyhow::Result;
use tch::{Kind, Tensor};

const EPS: f64 = 1e-6;

/// The largest number of f16.
const LARGEST_HALF: f64 = 65_504.0;

/// Holds what a block gives within f16, as upstream: the text of the published models goes beyond it.
fn held(x: Tensor) -> Tensor {
    if x.kind() == Kind::Half { x.clamp(-LARGEST_HALF, LARGEST_HALF) } else { x }
}

/// A block in which image and text have weights of their own and meet in the attention.
pub(super) struct DoubleBlock {
    norm1: AdaNorm,
    norm1_context: AdaNorm,
    image: Projection,
    text: Projection,
    out: Linear,
    text_out: Linear,
    plain: LayerNorm,
    ff: FeedForward,
    ff_context: FeedForward,
}

impl DoubleBlock {
    pub(super) fn new(scope: &Scope, config: &FluxConfig) -> Result<DoubleBlock> {
        let (d, heads, attn) = (config.width(), config.num_attention_heads, scope.sub("attn"));
        let (own, added) = (["to_q", "to_k", "to_v"], ["add_q_proj", "add_k_proj", "add_v_proj"]);
        Ok(DoubleBlock {
            norm1: AdaNorm::new(&scope.sub("norm1"), d, 6)?,
            norm1_context: AdaNorm::new(&scope.sub("norm1_context"), d, 6)?,
            image: Projection::new(&attn, own, Some(["norm_q", "norm_k"]), d, heads)?,
            text: Projection::new(&attn, added, Some(["norm_added_q", "norm_added_k"]), d, heads)?,
            out: Linear::new(&attn.sub("to_out.0"), d, d, true, Init::Xavier)?,
            text_out: Linear::new(&attn.sub("to_add_out"), d, d, true, Init::Xavier)?,
            plain: LayerNorm::plain(d, EPS),
            ff: FeedForward::new(&scope.sub("ff"), d)?,
            ff_context: FeedForward::new(&scope.sub("ff_context"), d)?,
        })
    }

    /// Image `[B, N, D]`, text `[B, L, D]`, activated conditioning `[B, D]` to image and text.
    pub(super) fn forward(
        &self,
        x: Tensor,
        text: Tensor,
        cond: &Tensor,
        angles: &Angles,
        lora: Option<&Lora>,
    ) -> (Tensor, Tensor) {
        let m = self.norm1.parts(cond, lora);
        let c = self.norm1_context.parts(cond, lora);
        let normed = |x: &Tensor, shift: &Tensor, scale: &Tensor| modulate(&self.plain.forward(x), shift, scale);
        let image = self.image.forward(&normed(&x, &m[0], &m[1]), lora);
        let words = self.text.forward(&normed(&text, &c[0], &c[1]), lora);
        // The text comes first in the joint sequence, the other way round than in SD3.
        let [q, k, v] = std::array::from_fn(|i| Tensor::cat(&[&words[i], &image[i]], 1));
        let y = attend(&angles.turn(&q), &angles.turn(&k), &v);
        let (l, n) = (text.size()[1], x.size()[1]);
        let x = x.addcmul(&m[2], &self.out.forward(&y.narrow(1, l, n), lora));
        let x = x.addcmul(&m[5], &self.ff.forward(&normed(&x, &m[3], &m[4]), lora));
        let text = text.addcmul(&c[2], &self.text_out.forward(&y.narrow(1, 0, l), lora));
        let text = text.addcmul(&c[5], &self.ff_context.forward(&normed(&text, &c[3], &c[4]), lora));
        (x, held(text))
    }

    pub(super) fn linears(&self, out: &mut Vec<LinearShape>) {
        self.norm1.linears(out);
        self.norm1_context.linears(out);
        self.image.linears(out);
        self.text.linears(out);
        out.extend([self.out.shape(), self.text_out.shape()]);
        self.ff.linears(out);
        self.ff_context.linears(out);
    }
}

/// A block that sees text and image as one sequence; attention and feed-forward run side by side.
pub(super) struct SingleBlock {
    norm: AdaNorm,
    attn: Projection,
    mlp: Linear,
    out: Linear,
    plain: LayerNorm,
}

impl SingleBlock {
    pub(super) fn new(scope: &Scope, config: &FluxConfig) -> Result<SingleBlock> {
        let (d, heads) = (config.width(), config.num_attention_heads);
        let (names, norms) = (["to_q", "to_k", "to_v"], Some(["norm_q", "norm_k"]));
        Ok(SingleBlock {
            norm: AdaNorm::new(&scope.sub("norm"), d, 3)?,
            attn: Projection::new(&scope.sub("attn"), names, norms, d, heads)?,
            mlp: Linear::new(&scope.sub("proj_mlp"), d, 4 * d, true, Init::Xavier)?,
            out: Linear::new(&scope.sub("proj_out"), 5 * d, d, true, Init::Xavier)?,
            plain: LayerNorm::plain(d, EPS),
        })
    }

    /// Text and image `[B, L + N, D]`, activated conditioning `[B, D]` to the same shape.
    pub(super) fn forward(&self, x: Tensor, cond: &Tensor, angles: &Angles, lora: Option<&Lora>) -> Tensor {
        let m = self.norm.parts(cond, lora);
        let y = modulate(&self.plain.forward(&x), &m[0], &m[1]);
        let [q, k, v] = self.attn.forward(&y, lora);
        let attended = attend(&angles.turn(&q), &angles.turn(&k), &v);
        let inner = self.mlp.forward(&y, lora).gelu("tanh");
        held(x.addcmul(&m[2], &self.out.forward(&Tensor::cat(&[attended, inner], 2), lora)))
    }

    pub(super) fn linears(&self, out: &mut Vec<LinearShape>) {
        self.norm.linears(out);
        self.attn.linears(out);
        out.extend([self.mlp.shape(), self.out.shape()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_held_and_no_other_kind() {
        let t = Tensor::from_slice(&[f32::INFINITY, -1e9, 3.0]);
        let found: Vec<f32> = Vec::try_from(held(t.to_kind(Kind::Half)).to_kind(Kind::Float)).unwrap();
        assert_eq!(found, [65_504.0, -65_504.0, 3.0]);
        assert!(held(t.shallow_clone()) == t);
    }
}
