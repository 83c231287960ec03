//! diffusers `Attention` with `JointAttnProcessor2_0`.

use crate::init::Init;
use crate::lora::Lora;
use crate::nn::{Linear, LinearShape, RmsNorm};
use crate::weights::Scope;
use anyhow::Result;
use tch::Tensor;

/// Query, key and value of one stream of tokens.
pub(crate) struct Projection {
    q: Linear,
    k: Linear,
    v: Linear,
    norms: Option<(RmsNorm, RmsNorm)>,
    heads: i64,
}

impl Projection {
    pub(crate) fn new(
        scope: &Scope,
        names: [&str; 3],
        norms: Option<[&str; 2]>,
        d: i64,
        heads: i64,
    ) -> Result<Projection> {
        let layer = |name: &str| Linear::new(&scope.sub(name), d, d, true, Init::Xavier);
        let norm = |name: &str| RmsNorm::new(&scope.sub(name), d / heads, 1e-6);
        let norms = norms.map(|[q, k]| Ok::<_, anyhow::Error>((norm(q)?, norm(k)?))).transpose()?;
        Ok(Projection { q: layer(names[0])?, k: layer(names[1])?, v: layer(names[2])?, norms, heads })
    }

    /// `[B, N, D]` to three of `[B, N, heads, D / heads]`.
    pub(crate) fn forward(&self, x: &Tensor, lora: Option<&Lora>) -> [Tensor; 3] {
        let (b, n, d) = x.size3().unwrap_or_default();
        let heads = |t: Tensor| t.view([b, n, self.heads, d / self.heads]);
        let (q, k) = (heads(self.q.forward(x, lora)), heads(self.k.forward(x, lora)));
        let v = heads(self.v.forward(x, lora));
        match &self.norms {
            Some((nq, nk)) => [nq.forward(&q), nk.forward(&k), v],
            None => [q, k, v],
        }
    }

    pub(crate) fn linears(&self, out: &mut Vec<LinearShape>) {
        out.extend([&self.q, &self.k, &self.v].map(Linear::shape));
    }
}

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

/// `[B, N, heads, d]` three times to `[B, N, heads d]`. The kernel's output is laid out by token, so the last step copies nothing.
pub(crate) fn attend(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let (q, k, v) = (q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2));
    let y = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, false, None, false);
    y.transpose(1, 2).flatten(2, 3)
}
