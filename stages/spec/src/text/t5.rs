//! The configuration of the T5 text encoder.

use crate::config::{positive, supported};
use crate::nn::Activation;
use anyhow::Result;
use serde::Deserialize;

/// The configuration of transformers' `T5Config`, with its defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct T5Config {
    /// Entries of the vocabulary.
    pub vocab_size: i64,
    /// Width.
    pub d_model: i64,
    /// Width of a head.
    pub d_kv: i64,
    /// Width inside the feed-forward part.
    pub d_ff: i64,
    /// Layers.
    pub num_layers: i64,
    /// Heads.
    pub num_heads: i64,
    /// Buckets of relative distance.
    pub relative_attention_num_buckets: i64,
    /// Distance from which on there is one bucket.
    pub relative_attention_max_distance: i64,
    /// Epsilon of the norms.
    pub layer_norm_epsilon: f64,
    /// Kind of the feed-forward part: `relu`, or `gated-gelu` (version 1.1).
    pub feed_forward_proj: String,
}

impl Default for T5Config {
    fn default() -> T5Config {
        T5Config {
            vocab_size: 32128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "relu".into(),
        }
    }
}

impl T5Config {
    /// Refuses what is not implemented and what cannot be.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "T5 config";
        positive(
            WHAT,
            &[
                ("vocab_size", self.vocab_size),
                ("d_model", self.d_model),
                ("d_kv", self.d_kv),
                ("d_ff", self.d_ff),
                ("num_layers", self.num_layers),
                ("num_heads", self.num_heads),
            ],
        )?;
        let (buckets, far) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        supported(WHAT, "relative_attention_num_buckets", buckets, buckets >= 4, "4 or more")?;
        supported(
            WHAT,
            "relative_attention_max_distance",
            far,
            far > buckets / 4,
            "more than a quarter of the buckets",
        )?;
        self.form().map(|_| ())
    }

    /// Activation of the feed-forward part, and whether it gates.
    ///
    /// # Errors
    /// A kind that is not implemented.
    pub fn form(&self) -> Result<(Activation, bool)> {
        let form = match self.feed_forward_proj.as_str() {
            "gated-gelu" => Some((Activation::GeluTanh, true)),
            "gated-silu" => Some((Activation::Silu, true)),
            "relu" => Some((Activation::Relu, false)),
            _ => None,
        };
        let found = &self.feed_forward_proj;
        supported("T5 config", "feed_forward_proj", found, form.is_some(), "gated-gelu, gated-silu, relu")?;
        Ok(form.unwrap_or((Activation::Relu, false)))
    }
}
