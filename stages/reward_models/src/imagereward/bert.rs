//! BLIP's text encoder, a BERT whose every layer also looks at the image: `BertModel` of `models/BLIP/med.py`.

use anyhow::{Result, ensure};
use opdflow_models::config::{positive, supported};
use opdflow_models::init::Init;
use opdflow_models::nn::{Activate as _, Activation, Embedding, LayerNorm, Linear};
use opdflow_models::weights::Scope;
use serde::Deserialize;
use tch::Tensor;

/// `med_config.json`; the defaults are the published file's.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct BertConfig {
    /// Entries of the vocabulary: BERT's, and two of BLIP's own.
    pub vocab_size: i64,
    /// Width.
    pub hidden_size: i64,
    /// Width inside the feed-forward part.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Heads.
    pub num_attention_heads: i64,
    /// Longest sequence.
    pub max_position_embeddings: i64,
    /// Activation of the feed-forward part.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// Whether the layers look at the image; they must.
    pub add_cross_attention: bool,
}

impl Default for BertConfig {
    fn default() -> BertConfig {
        BertConfig {
            vocab_size: 30524,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            max_position_embeddings: 512,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            add_cross_attention: true,
        }
    }
}

impl BertConfig {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// A size that is not positive, or sizes that do not go together.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "BLIP text config";
        positive(
            WHAT,
            &[
                ("vocab_size", self.vocab_size),
                ("hidden_size", self.hidden_size),
                ("intermediate_size", self.intermediate_size),
                ("num_hidden_layers", self.num_hidden_layers),
                ("num_attention_heads", self.num_attention_heads),
                ("max_position_embeddings", self.max_position_embeddings),
            ],
        )?;
        let crossed = self.add_cross_attention;
        supported(WHAT, "add_cross_attention", crossed, crossed, "true")?;
        let (d, h) = (self.hidden_size, self.num_attention_heads);
        ensure!(d % h == 0, "{WHAT}: `hidden_size` {d} is not a multiple of `num_attention_heads` {h}");
        Ok(())
    }
}

/// Attention with what follows it: `BertAttention`.
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    after: After,
    heads: i64,
}

impl Attention {
    /// `seen`: width of what is looked at.
    fn new(scope: &Scope, c: &BertConfig, seen: i64) -> Result<Attention> {
        let (d, own) = (c.hidden_size, scope.sub("self"));
        let linear = |name: &str, from| Linear::new(&own.sub(name), from, d, true, Init::FanIn);
        Ok(Attention {
            query: linear("query", d)?,
            key: linear("key", seen)?,
            value: linear("value", seen)?,
            after: After::new(&scope.sub("output"), d, c)?,
            heads: c.num_attention_heads,
        })
    }

    /// `[B, L, D]` that looks at `[B, M, W]`, at the places that `mask` `[B, 1, 1, M]` (Bool) allows.
    fn forward(&self, x: &Tensor, seen: &Tensor, mask: Option<&Tensor>) -> Tensor {
        let split = |linear: &Linear, from: &Tensor| {
            let y = linear.forward(from, None);
            let (b, n, d) = y.size3().expect("[B, N, D]");
            y.view([b, n, self.heads, d / self.heads]).transpose(1, 2)
        };
        let (q, k, v) = (split(&self.query, x), split(&self.key, seen), split(&self.value, seen));
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, None, false);
        self.after.forward(&y.transpose(1, 2).flatten(2, 3), x)
    }
}

/// A linear layer, what went before it added, and a norm: `BertSelfOutput`, `BertOutput`.
struct After {
    dense: Linear,
    norm: LayerNorm,
}

impl After {
    fn new(scope: &Scope, from: i64, c: &BertConfig) -> Result<After> {
        Ok(After {
            dense: Linear::new(&scope.sub("dense"), from, c.hidden_size, true, Init::FanIn)?,
            norm: LayerNorm::new(&scope.sub("LayerNorm"), c.hidden_size, c.layer_norm_eps)?,
        })
    }

    fn forward(&self, y: &Tensor, before: &Tensor) -> Tensor {
        self.norm.forward(&(self.dense.forward(y, None) + before))
    }
}

struct Layer {
    attention: Attention,
    cross: Attention,
    inside: Linear,
    act: Activation,
    after: After,
}

impl Layer {
    fn new(scope: &Scope, c: &BertConfig, seen: i64) -> Result<Layer> {
        let inside = scope.sub("intermediate.dense");
        Ok(Layer {
            attention: Attention::new(&scope.sub("attention"), c, c.hidden_size)?,
            cross: Attention::new(&scope.sub("crossattention"), c, seen)?,
            inside: Linear::new(&inside, c.hidden_size, c.intermediate_size, true, Init::FanIn)?,
            act: c.hidden_act,
            after: After::new(&scope.sub("output"), c.intermediate_size, c)?,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor, seen: &Tensor) -> Tensor {
        let x = self.attention.forward(x, x, Some(mask));
        let x = self.cross.forward(&x, seen, None);
        self.after.forward(&self.act.forward(&self.inside.forward(&x, None)), &x)
    }
}

/// The encoder.
pub struct Bert {
    words: Embedding,
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl Bert {
    /// Takes its tensors from `scope`: `embeddings` and `encoder`. `seen` is the width of the image's tokens.
    ///
    /// # Errors
    /// A tensor is missing or of another shape.
    pub fn new(scope: &Scope, config: &BertConfig, seen: i64) -> Result<Bert> {
        config.check()?;
        let (emb, layers, d) = (scope.sub("embeddings"), scope.sub("encoder.layer"), config.hidden_size);
        let (small, places) = (Init::Normal(0.02), config.max_position_embeddings);
        Ok(Bert {
            words: Embedding::new(&emb.sub("word_embeddings"), config.vocab_size, d, small)?,
            positions: emb.sub("position_embeddings").get("weight", &[places, d], small)?,
            norm: LayerNorm::new(&emb.sub("LayerNorm"), d, config.layer_norm_eps)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::new(&layers.sub(i), config, seen))
                .collect::<Result<_>>()?,
        })
    }

    /// Ids `[B, L]` (Int64), which of them are words and not padding `[B, L]` (Bool), and an image's tokens `[B, N, W]`
    /// to the state of the first token `[B, D]`.
    pub fn forward(&self, ids: &Tensor, words: &Tensor, seen: &Tensor) -> Tensor {
        let length = ids.size().last().copied().unwrap_or_default();
        let x = self.norm.forward(&(self.words.forward(ids) + self.positions.narrow(0, 0, length)));
        let mask = words.unsqueeze(1).unsqueeze(1);
        self.layers.iter().fold(x, |x, layer| layer.forward(&x, &mask, seen)).select(1, 0)
    }
}
