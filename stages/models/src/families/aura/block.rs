//! diffusers `AuraFlowJointTransformerBlock` and `AuraFlowSingleTransformerBlock`. No layer has a bias, and no norm a weight.

use super::AuraConfig;
use crate::init::Init;
use crate::lora::Lora;
use crate::nn::{LayerNorm, Linear, LinearShape};
use crate::transformer::{attend, modulate};
use crate::weights::Scope;
use anyhow::Result;
use tch::Tensor;

/// The epsilon of PyTorch's norms, where upstream names none. libtorch takes the mean in f32 whatever the input, as upstream's
/// `FP32LayerNorm` does.
const EPS: f64 = 1e-5;

fn bare(scope: &Scope, name: &str, d_in: i64, d_out: i64, init: Init) -> Result<Linear> {
    Linear::new(&scope.sub(name), d_in, d_out, false, init)
}

/// Query, key and value of one stream of tokens; queries and keys are normed by head.
struct Projection {
    layers: [Linear; 3],
    norm: LayerNorm,
    heads: i64,
}

impl Projection {
    fn new(scope: &Scope, names: [&str; 3], config: &AuraConfig) -> Result<Projection> {
        let d = config.width();
        let [q, k, v] = names.map(|name| bare(scope, name, d, d, Init::Xavier));
        let norm = LayerNorm::plain(config.attention_head_dim, EPS);
        Ok(Projection { layers: [q?, k?, v?], norm, heads: config.num_attention_heads })
    }

    /// `[B, N, D]` to three of `[B, N, heads, D / heads]`.
    fn forward(&self, x: &Tensor, lora: Option<&Lora>) -> [Tensor; 3] {
        let [q, k, v] = self.layers.each_ref().map(|l| l.forward(x, lora).unflatten(-1, [self.heads, -1]));
        [self.norm.forward(&q), self.norm.forward(&k), v]
    }
}

/// `AuraFlowFeedForward`: SwiGLU.
struct FeedForward {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl FeedForward {
    fn new(scope: &Scope, config: &AuraConfig) -> Result<FeedForward> {
        let (d, hidden) = (config.width(), config.hidden());
        Ok(FeedForward {
            gate: bare(scope, "linear_1", d, hidden, Init::Xavier)?,
            up: bare(scope, "linear_2", d, hidden, Init::Xavier)?,
            down: bare(scope, "out_projection", hidden, d, Init::Xavier)?,
        })
    }

    fn forward(&self, x: &Tensor, lora: Option<&Lora>) -> Tensor {
        self.down.forward(&(self.gate.forward(x, lora).silu() * self.up.forward(x, lora)), lora)
    }
}

/// One stream of a block but for its queries, keys and values: modulated norms, output, feed-forward part.
struct Stream {
    modulation: Linear,
    out: Linear,
    ff: FeedForward,
    plain: LayerNorm,
}

/// What the conditioning gives a stream, each `[B, 1, D]`: shift, scale and gate of the attention, then of the feed-forward part.
type Parts = Vec<Tensor>;

impl Stream {
    fn new(scope: &Scope, [norm, out, ff]: [&str; 3], config: &AuraConfig) -> Result<Stream> {
        let d = config.width();
        Ok(Stream {
            // Zero, so that a fresh block is the identity.
            modulation: bare(&scope.sub(norm), "linear", d, 6 * d, Init::Zeros)?,
            out: bare(&scope.sub("attn"), out, d, d, Init::Xavier)?,
            ff: FeedForward::new(&scope.sub(ff), config)?,
            plain: LayerNorm::plain(d, EPS),
        })
    }

    fn parts(&self, cond: &Tensor, lora: Option<&Lora>) -> Parts {
        self.modulation.forward(cond, lora).unsqueeze(1).chunk(6, -1)
    }

    /// What the attention sees of the stream.
    fn enter(&self, x: &Tensor, m: &Parts) -> Tensor {
        modulate(&self.plain.forward(x), &m[0], &m[1])
    }

    /// The stream after the block. The second norm sees what the attention adds; the feed-forward part is added to what entered the
    /// block, so that the attention reaches the stream through it alone.
    fn leave(&self, x: &Tensor, attended: &Tensor, m: &Parts, lora: Option<&Lora>) -> Tensor {
        let y = self.plain.forward(&x.addcmul(&m[2], &self.out.forward(attended, lora)));
        x.addcmul(&m[5], &self.ff.forward(&modulate(&y, &m[3], &m[4]), lora))
    }
}

/// A block in which image and text have weights of their own and meet in the attention.
pub(super) struct JointBlock {
    image: (Projection, Stream),
    text: (Projection, Stream),
}

impl JointBlock {
    pub(super) fn new(scope: &Scope, config: &AuraConfig) -> Result<JointBlock> {
        let attn = scope.sub("attn");
        let (own, added) = (["to_q", "to_k", "to_v"], ["add_q_proj", "add_k_proj", "add_v_proj"]);
        let text = ["norm1_context", "to_add_out", "ff_context"];
        Ok(JointBlock {
            image: (Projection::new(&attn, own, config)?, Stream::new(scope, ["norm1", "to_out.0", "ff"], config)?),
            text: (Projection::new(&attn, added, config)?, Stream::new(scope, text, config)?),
        })
    }

    /// Image `[B, N, D]`, text `[B, L, D]`, activated conditioning `[B, D]` to image and text.
    pub(super) fn forward(&self, x: &Tensor, text: &Tensor, cond: &Tensor, lora: Option<&Lora>) -> (Tensor, Tensor) {
        let (m, c) = (self.image.1.parts(cond, lora), self.text.1.parts(cond, lora));
        let image = self.image.0.forward(&self.image.1.enter(x, &m), lora);
        let words = self.text.0.forward(&self.text.1.enter(text, &c), lora);
        // The text comes first in the joint sequence.
        let [q, k, v] = std::array::from_fn(|i| Tensor::cat(&[&words[i], &image[i]], 1));
        let y = attend(&q, &k, &v);
        let (l, n) = (text.size()[1], x.size()[1]);
        (self.image.1.leave(x, &y.narrow(1, l, n), &m, lora), self.text.1.leave(text, &y.narrow(1, 0, l), &c, lora))
    }

    pub(super) fn linears(&self, out: &mut Vec<LinearShape>) {
        let ((p, image), (q, text)) = (&self.image, &self.text);
        out.extend([&image.modulation, &text.modulation].map(Linear::shape));
        out.extend(p.layers.iter().chain(&q.layers).map(Linear::shape));
        out.extend([&image.out, &text.out].map(Linear::shape));
        for ff in [&image.ff, &text.ff] {
            out.extend([&ff.gate, &ff.up, &ff.down].map(Linear::shape));
        }
    }
}

/// A block that sees text and image as one sequence.
pub(super) struct SingleBlock {
    projection: Projection,
    stream: Stream,
}

impl SingleBlock {
    pub(super) fn new(scope: &Scope, config: &AuraConfig) -> Result<SingleBlock> {
        Ok(SingleBlock {
            projection: Projection::new(&scope.sub("attn"), ["to_q", "to_k", "to_v"], config)?,
            stream: Stream::new(scope, ["norm1", "to_out.0", "ff"], config)?,
        })
    }

    /// Text and image `[B, L + N, D]`, activated conditioning `[B, D]` to the same shape.
    pub(super) fn forward(&self, x: &Tensor, cond: &Tensor, lora: Option<&Lora>) -> Tensor {
        let m = self.stream.parts(cond, lora);
        let [q, k, v] = self.projection.forward(&self.stream.enter(x, &m), lora);
        self.stream.leave(x, &attend(&q, &k, &v), &m, lora)
    }

    pub(super) fn linears(&self, out: &mut Vec<LinearShape>) {
        let (stream, ff) = (&self.stream, &self.stream.ff);
        out.push(stream.modulation.shape());
        out.extend(self.projection.layers.iter().map(Linear::shape));
        out.extend([&stream.out, &ff.gate, &ff.up, &ff.down].map(Linear::shape));
    }
}
