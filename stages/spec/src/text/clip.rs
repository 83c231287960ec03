//! Configurations of CLIP's text encoder and of the layers of its towers.

use crate::config::positive;
use crate::nn::Activation;
use anyhow::{Result, ensure};
use serde::Deserialize;

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

/// What a layer is made by. The names are those of transformers' `CLIPTextConfig` and `CLIPVisionConfig`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerConfig {
    /// Width.
    pub hidden_size: i64,
    /// Width inside the feed-forward part.
    pub intermediate_size: i64,
    /// Layers of the tower; fresh weights are scaled by it.
    pub num_hidden_layers: i64,
    /// Heads.
    pub num_attention_heads: i64,
    /// Activation of the feed-forward part.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// Whether a place sees only itself and those before it.
    pub causal: bool,
}

impl LayerConfig {
    /// Refuses what cannot be; `what` names the tower's configuration.
    ///
    /// # Errors
    /// A size that is not positive, or a width that the heads do not fill.
    pub fn check(&self, what: &str) -> Result<()> {
        positive(
            what,
            &[
                ("hidden_size", self.hidden_size),
                ("intermediate_size", self.intermediate_size),
                ("num_hidden_layers", self.num_hidden_layers),
                ("num_attention_heads", self.num_attention_heads),
            ],
        )?;
        let (d, h) = (self.hidden_size, self.num_attention_heads);
        ensure!(d % h == 0, "{what}: `hidden_size` {d} is not a multiple of `num_attention_heads` {h}");
        Ok(())
    }
}
