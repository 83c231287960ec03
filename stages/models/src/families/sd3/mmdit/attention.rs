//! diffusers `Attention` with `JointAttnProcessor2_0`.

use crate::init::Init;
use crate::lora::Lora;
use crate::nn::{Linear, LinearShape};
use crate::transformer::{Projection, attend};
use crate::weights::Scope;
use anyhow::Result;
use tch::Tensor;

/// Attention over the image tokens alone (`attn2`) or over image and text together (`attn`).
pub(super) struct Attention {
    image: Projection,
    text: Option<Projection>,
    out: Linear,
    text_out: Option<Linear>,
}

impl Attention {
    pub(super) fn single(scope: &Scope, d: i64, heads: i64, normed: bool) -> Result<Attention> {
        let norms = normed.then_some(["norm_q", "norm_k"]);
        Ok(Attention {
            image: Projection::new(scope, ["to_q", "to_k", "to_v"], norms, d, heads)?,
            text: None,
            out: Linear::new(&scope.sub("to_out.0"), d, d, true, Init::Xavier)?,
            text_out: None,
        })
    }

    /// `last`: the text leaves the model here, so it has no output projection.
    pub(super) fn joint(scope: &Scope, d: i64, heads: i64, normed: bool, last: bool) -> Result<Attention> {
        let norms = normed.then_some(["norm_added_q", "norm_added_k"]);
        let text = Projection::new(scope, ["add_q_proj", "add_k_proj", "add_v_proj"], norms, d, heads)?;
        let text_out = if last { None } else { Some(Linear::new(&scope.sub("to_add_out"), d, d, true, Init::Xavier)?) };
        Ok(Attention { text: Some(text), text_out, ..Attention::single(scope, d, heads, normed)? })
    }

    /// Image `[B, N, D]` to `[B, N, D]`.
    pub(super) fn forward(&self, x: &Tensor, lora: Option<&Lora>) -> Tensor {
        let [q, k, v] = self.image.forward(x, lora);
        self.out.forward(&attend(&q, &k, &v), lora)
    }

    /// Image `[B, N, D]` and text `[B, L, D]` to the same, image tokens first in the joint sequence.
    pub(super) fn forward_joint(&self, x: &Tensor, text: &Tensor, lora: Option<&Lora>) -> (Tensor, Option<Tensor>) {
        let Some(added) = &self.text else { return (self.forward(x, lora), None) };
        let (image, text_part) = (self.image.forward(x, lora), added.forward(text, lora));
        let [q, k, v] = std::array::from_fn(|i| Tensor::cat(&[&image[i], &text_part[i]], 1));
        let y = attend(&q, &k, &v);
        let (n, l) = (x.size()[1], text.size()[1]);
        let image = self.out.forward(&y.narrow(1, 0, n), lora);
        (image, self.text_out.as_ref().map(|o| o.forward(&y.narrow(1, n, l), lora)))
    }

    pub(super) fn linears(&self, out: &mut Vec<LinearShape>) {
        self.image.linears(out);
        if let Some(text) = &self.text {
            text.linears(out);
        }
        out.push(self.out.shape());
        out.extend(self.text_out.as_ref().map(Linear::shape));
    }
}
