//! The CLIP text encoders: transformers `CLIPTextModelWithProjection`, and `CLIPTextModel` without the projection.

mod layer;

use crate::config::positive;
use crate::init::Init;
use crate::nn::{Activation, Embedding, LayerNorm, Linear};
use crate::weights::Scope;
use anyhow::{Result, ensure};
pub use layer::{Layer, LayerConfig};
use serde::Deserialize;
use tch::{Kind, Tensor};

/// The configuration of transformers' `CLIPTextConfig`, with its defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClipConfig {
    /// Entries of the vocabulary.
    pub vocab_size: i64,
    /// Width.
    pub hidden_size: i64,
    /// Width inside the feed-forward part.
    pub intermediate_size: i64,
    /// Width of the pooled output.
    pub projection_dim: i64,
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
    /// The token at whose first place the output is pooled. Old checkpoints carry 2, which means: at the largest id.
    pub eos_token_id: i64,
}

impl Default for ClipConfig {
    fn default() -> ClipConfig {
        ClipConfig {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

impl ClipConfig {
    /// Refuses what cannot be.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "CLIP text config";
        positive(
            WHAT,
            &[
                ("vocab_size", self.vocab_size),
                ("projection_dim", self.projection_dim),
                ("max_position_embeddings", self.max_position_embeddings),
            ],
        )?;
        self.layer().check(WHAT)
    }

    /// What one of its layers is made by: each token sees itself and those before it.
    pub fn layer(&self) -> LayerConfig {
        LayerConfig {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            hidden_act: self.hidden_act,
            layer_norm_eps: self.layer_norm_eps,
            causal: true,
        }
    }
}

/// What the pipeline takes from a CLIP text encoder.
pub struct ClipOutput {
    /// `hidden_states[-2]`: what enters the last layer, `[B, L, D]`.
    pub hidden: Tensor,
    /// `last_hidden_state` after the final norm, `[B, L, D]`.
    pub last: Tensor,
    /// The last state at the end token: its projection (`text_embeds`), `[B, P]`, or without one itself (`pooler_output`),
    /// `[B, D]`.
    pub pooled: Tensor,
}

/// transformers `CLIPTextModelWithProjection` or `CLIPTextModel`, checkpoint `text_encoder/model.safetensors`.
pub struct ClipText {
    config: ClipConfig,
    tokens: Embedding,
    positions: Embedding,
    layers: Vec<Layer>,
    norm: LayerNorm,
    projection: Option<Linear>,
}

impl ClipText {
    /// Takes its tensors from `scope`.
    pub fn new(scope: &Scope, config: &ClipConfig) -> Result<ClipText> {
        config.check()?;
        let (d, wide) = (config.hidden_size, Init::Normal((config.hidden_size as f64).powf(-0.5)));
        let clip = ClipText::bare(&scope.sub("text_model"), config)?;
        let projection = Linear::new(&scope.sub("text_projection"), d, config.projection_dim, false, wide)?;
        Ok(ClipText { projection: Some(projection), ..clip })
    }

    /// transformers `CLIPTextModel`: the same without the projection. Its names are those of [`ClipText::new`], or, as
    /// transformers writes them since version 5, without `text_model.` before them.
    pub fn unprojected(scope: &Scope, config: &ClipConfig) -> Result<ClipText> {
        config.check()?;
        let short = scope.has("embeddings.token_embedding.weight");
        ClipText::bare(&if short { scope.clone() } else { scope.sub("text_model") }, config)
    }

    fn bare(text: &Scope, config: &ClipConfig) -> Result<ClipText> {
        let d = config.hidden_size;
        let (emb, layers, layer) = (text.sub("embeddings"), text.sub("encoder.layers"), config.layer());
        Ok(ClipText {
            tokens: Embedding::new(&emb.sub("token_embedding"), config.vocab_size, d, Init::Normal(0.02))?,
            positions: Embedding::new(
                &emb.sub("position_embedding"),
                config.max_position_embeddings,
                d,
                Init::Normal(0.02),
            )?,
            layers: (0..config.num_hidden_layers).map(|i| Layer::new(&layers.sub(i), &layer)).collect::<Result<_>>()?,
            norm: LayerNorm::new(&text.sub("final_layer_norm"), d, config.layer_norm_eps)?,
            projection: None,
            config: config.clone(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// Ids `[B, L]` (Int64); padding is attended to, as upstream.
    pub fn forward(&self, ids: &Tensor) -> Result<ClipOutput> {
        let (_, n) = ids.size2()?;
        let max = self.config.max_position_embeddings;
        ensure!(n <= max, "{n} tokens, this CLIP text encoder takes at most {max}");
        let ids = ids.to_device(self.tokens.w.device());
        let mut x = self.tokens.forward(&ids) + self.positions.w.narrow(0, 0, n);
        let mut hidden = x.shallow_clone();
        for layer in &self.layers {
            hidden = x;
            x = layer.forward(&hidden);
        }
        let last = self.norm.forward(&x);
        let score = match self.config.eos_token_id {
            2 => ids,
            eos => ids.eq(eos).to_kind(Kind::Int64),
        };
        // argmax takes the first of equals, as upstream counts on: the padding may be the end token itself.
        let place = score.argmax(1, true).unsqueeze(-1).expand([-1, 1, last.size()[2]], false);
        let pooled = last.gather(1, &place, false).squeeze_dim(1);
        let pooled = self.projection.as_ref().map_or_else(|| pooled.shallow_clone(), |p| p.forward(&pooled, None));
        Ok(ClipOutput { hidden, last, pooled })
    }
}
