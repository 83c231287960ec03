//! `text_encoder/config.json` of AuraFlow: UMT5, of which Pile-T5 is one.

use crate::config::{positive, supported};
use crate::nn::Activation;
use anyhow::Result;
use serde::Deserialize;

/// Larger sizes are refused before anything is multiplied by them.
const LARGEST: i64 = 1 << 24;

/// The configuration of transformers' `UMT5Config`, with its defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Umt5Config {
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
    /// Kind of the feed-forward part: `gated-gelu`, `gated-silu` or `relu`.
    pub feed_forward_proj: String,
}

impl Default for Umt5Config {
    fn default() -> Umt5Config {
        Umt5Config {
            vocab_size: 250_112,
            d_model: 512,
            d_kv: 64,
            d_ff: 1024,
            num_layers: 8,
            num_heads: 6,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "gated-gelu".into(),
        }
    }
}

impl Umt5Config {
    /// Refuses what is not implemented and what cannot be.
    ///
    /// # Errors
    /// The first such value, by its name.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "UMT5 config";
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("d_ff", self.d_ff),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
        ];
        positive(WHAT, &sizes)?;
        for (key, size) in sizes {
            supported(WHAT, key, size, size <= LARGEST, &format!("1 to {LARGEST}"))?;
        }
        let (buckets, far) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        supported(WHAT, "relative_attention_num_buckets", buckets, buckets >= 4, "4 or more")?;
        let wanted = "more than a quarter of the buckets";
        supported(WHAT, "relative_attention_max_distance", far, far > buckets / 4, wanted)?;
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
        supported("UMT5 config", "feed_forward_proj", found, form.is_some(), "gated-gelu, gated-silu, relu")?;
        Ok(form.unwrap_or((Activation::Relu, false)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_values_are_refused_by_name() {
        let refused = |change: &dyn Fn(&mut Umt5Config)| {
            let mut config = Umt5Config::default();
            config.check().unwrap();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(refused(&|c| c.feed_forward_proj = "gated-relu".into()).contains("`feed_forward_proj` is gated-relu"));
        assert!(refused(&|c| c.num_heads = 0).contains("`num_heads` is 0"));
        assert!(refused(&|c| c.d_kv = 1 << 40).contains("`d_kv` is 1099511627776, supported: 1 to 16777216"));
        assert!(refused(&|c| c.relative_attention_num_buckets = 2).contains("`relative_attention_num_buckets` is 2"));
        assert!(refused(&|c| c.relative_attention_max_distance = 8).contains("`relative_attention_max_distance` is 8"));
        let found: Umt5Config = serde_json::from_str(r#"{"feed_forward_proj": "gated-silu"}"#).unwrap();
        assert_eq!(found.form().unwrap(), (Activation::Silu, true));
    }
}
