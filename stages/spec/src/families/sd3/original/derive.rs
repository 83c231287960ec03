//! Configurations from the shapes of a single file, which has none of its own. What no shape tells is what all published
//! models of Stable Diffusion 3 and 3.5 have (their config.json files).

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Shapes of one part's tensors, without its prefix.
pub(super) struct Shapes(pub BTreeMap<String, Vec<i64>>);

impl Shapes {
    fn side(&self, name: &str, axis: usize) -> Result<i64> {
        let shape = self.0.get(name).with_context(|| format!("tensor `{name}` is missing"))?;
        shape.get(axis).copied().with_context(|| format!("tensor `{name}` has shape {shape:?}"))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// How many there are of `{before}0{after}`, `{before}1{after}` and so on.
    fn count(&self, before: &str, after: &str) -> i64 {
        (0..).take_while(|i| self.has(&format!("{before}{i}{after}"))).count() as i64
    }

    /// `SD3Transformer2DModel`.
    pub(super) fn transformer(&self) -> Result<Value> {
        let (width, patch) = (self.side("x_embedder.proj.weight", 0)?, self.side("x_embedder.proj.weight", 2)?);
        let layers = self.count("joint_blocks.", ".x_block.attn.qkv.weight");
        let normed = "joint_blocks.0.x_block.attn.ln_q.weight";
        let head = if self.has(normed) { self.side(normed, 0)? } else { 64 };
        let dual = |i: &i64| self.has(&format!("joint_blocks.{i}.x_block.attn2.qkv.weight"));
        let table = self.0.get("pos_embed").and_then(|s| s.get(1)).map(|n| (*n as f64).sqrt() as i64);
        Ok(json!({
            "sample_size": 128, "patch_size": patch, "in_channels": self.side("x_embedder.proj.weight", 1)?,
            "out_channels": self.side("final_layer.linear.weight", 0)? / (patch * patch).max(1), "num_layers": layers,
            "attention_head_dim": head, "num_attention_heads": width / head.max(1), "caption_projection_dim": width,
            "joint_attention_dim": self.side("context_embedder.weight", 1)?,
            "pooled_projection_dim": self.side("y_embedder.mlp.0.weight", 1)?, "pos_embed_max_size": table,
            "qk_norm": self.has(normed).then_some("rms_norm"),
            "dual_attention_layers": (0..layers).filter(dual).collect::<Vec<_>>(),
        }))
    }

    /// `AutoencoderKL`.
    pub(super) fn vae(&self) -> Result<Value> {
        let levels = self.count("encoder.down.", ".block.0.conv1.weight");
        let width = |i: i64| self.side(&format!("encoder.down.{i}.block.0.conv1.weight"), 0);
        let widths = (0..levels).map(width).collect::<Result<Vec<_>>>()?;
        Ok(json!({
            "in_channels": self.side("encoder.conv_in.weight", 1)?, "out_channels": self.side("decoder.conv_out.weight", 0)?,
            "down_block_types": vec!["DownEncoderBlock2D"; widths.len()],
            "up_block_types": vec!["UpDecoderBlock2D"; widths.len()], "block_out_channels": widths,
            "layers_per_block": self.count("encoder.down.0.block.", ".conv1.weight"),
            "latent_channels": self.side("decoder.conv_in.weight", 1)?, "norm_num_groups": 32, "sample_size": 1024,
            "scaling_factor": 1.5305, "shift_factor": 0.0609, "use_quant_conv": self.has("quant_conv.weight"),
            "use_post_quant_conv": self.has("post_quant_conv.weight"),
            "mid_block_add_attention": self.has("encoder.mid.attn_1.q.weight"),
        }))
    }

    /// `CLIPTextModelWithProjection`: CLIP-L, or OpenCLIP bigG.
    pub(super) fn clip(&self, large: bool) -> Result<Value> {
        let width = self.side("text_model.embeddings.position_embedding.weight", 1)?;
        let projected = if large { self.side("text_projection.weight", 0)? } else { width };
        Ok(json!({
            "vocab_size": self.side("text_model.embeddings.token_embedding.weight", 0)?, "hidden_size": width,
            "intermediate_size": self.side("text_model.encoder.layers.0.mlp.fc1.weight", 0)?, "projection_dim": projected,
            "num_hidden_layers": self.count("text_model.encoder.layers.", ".mlp.fc1.weight"),
            "num_attention_heads": width / 64,
            "max_position_embeddings": self.side("text_model.embeddings.position_embedding.weight", 0)?,
            "hidden_act": if large { "gelu" } else { "quick_gelu" }, "layer_norm_eps": 1e-5, "eos_token_id": 2,
        }))
    }

    /// `T5EncoderModel`.
    pub(super) fn t5(&self) -> Result<Value> {
        let first = "encoder.block.0.layer.0.SelfAttention";
        let heads = self.side(&format!("{first}.relative_attention_bias.weight"), 1)?;
        let gated = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight";
        let plain = "encoder.block.0.layer.1.DenseReluDense.wi.weight";
        Ok(json!({
            "vocab_size": self.side("shared.weight", 0)?, "d_model": self.side("shared.weight", 1)?,
            "d_kv": self.side(&format!("{first}.q.weight"), 0)? / heads.max(1),
            "d_ff": self.side(if self.has(gated) { gated } else { plain }, 0)?,
            "num_layers": self.count("encoder.block.", ".layer.0.SelfAttention.q.weight"), "num_heads": heads,
            "relative_attention_num_buckets": self.side(&format!("{first}.relative_attention_bias.weight"), 0)?,
            "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
            "feed_forward_proj": if self.has(gated) { "gated-gelu" } else { "relu" },
        }))
    }
}
