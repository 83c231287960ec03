//! The linear layers of a network by its configuration alone: what an adapter can be for, before there is a network.

use super::FluxConfig;
use crate::linears::{LinearShape, LoraConfig};
use crate::nn::TIME_CHANNELS;

/// The layers that Flow-GRPO trains in FLUX.1 (`scripts/train_flux.py`, commit 74db691), matched as peft does. The first
/// three are those of the single blocks too.
pub const LORA_TARGETS: [&str; 12] = [
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
];

/// An adapter on [`LORA_TARGETS`]. Flow-GRPO has rank 64 and alpha 128.
#[must_use]
pub fn lora_config(rank: i64, alpha: f64) -> LoraConfig {
    LoraConfig { rank, alpha, target_modules: LORA_TARGETS.map(str::to_owned).to_vec() }
}

impl FluxConfig {
    /// All linear layers of a network of this configuration, in the order of its modules. The configuration must have
    /// passed [`FluxConfig::check`].
    #[must_use]
    pub fn linears(&self) -> Vec<LinearShape> {
        let d = self.width();
        let mut found = Vec::new();
        let mut add = |name: String, d_in: i64, d_out: i64| found.push(LinearShape { name, d_in, d_out });
        for (part, d_in) in [
            ("timestep_embedder", TIME_CHANNELS),
            ("guidance_embedder", TIME_CHANNELS),
            ("text_embedder", self.pooled_projection_dim),
        ] {
            if part != "guidance_embedder" || self.guidance_embeds {
                add(format!("time_text_embed.{part}.linear_1"), d_in, d);
                add(format!("time_text_embed.{part}.linear_2"), d, d);
            }
        }
        add("context_embedder".into(), self.joint_attention_dim, d);
        add("x_embedder".into(), self.in_channels, d);
        for layer in 0..self.num_layers {
            let mut own = |name: &str, d_in, d_out| add(format!("transformer_blocks.{layer}.{name}"), d_in, d_out);
            own("norm1.linear", d, 6 * d);
            own("norm1_context.linear", d, 6 * d);
            for name in ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out"] {
                own(&format!("attn.{name}"), d, d);
            }
            for stream in ["ff", "ff_context"] {
                own(&format!("{stream}.net.0.proj"), d, 4 * d);
                own(&format!("{stream}.net.2"), 4 * d, d);
            }
        }
        for layer in 0..self.num_single_layers {
            let mut own =
                |name: &str, d_in, d_out| add(format!("single_transformer_blocks.{layer}.{name}"), d_in, d_out);
            own("norm.linear", d, 3 * d);
            for name in ["to_q", "to_k", "to_v"] {
                own(&format!("attn.{name}"), d, d);
            }
            own("proj_mlp", d, 4 * d);
            own("proj_out", 5 * d, d);
        }
        add("norm_out.linear".into(), d, 2 * d);
        add("proj_out".into(), d, self.channels_out());
        found
    }

    /// Numbers of all weights of a network of this configuration: what it takes in memory.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let linear: u64 = self.linears().iter().map(|l| ((l.d_in + 1) * l.d_out).max(0).unsigned_abs()).sum();
        // The norms of queries and keys.
        let norms = (4 * self.num_layers + 2 * self.num_single_layers) * self.attention_head_dim;
        linear + norms.max(0).unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_network_has_its_published_size() {
        // FLUX.1-dev's safetensors index: 23,802,816,640 bytes of bf16. schnell lacks the guidance's two layers.
        let dev = FluxConfig { guidance_embeds: true, ..FluxConfig::default() };
        assert_eq!(dev.parameters(), 11_901_408_320);
        let two = (256 * 3072 + 3072) + (3072 * 3072 + 3072);
        assert_eq!(FluxConfig::default().parameters(), dev.parameters() - two);
    }
}
