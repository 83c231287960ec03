//! The linear layers of a network by its configuration alone: what an adapter can be for, before there is a network.

use super::{AuraConfig, REGISTERS};
use crate::linears::LinearShape;
use crate::nn::TIME_CHANNELS;

/// The feed-forward part of a stream, which gates.
const GATED: [&str; 2] = ["linear_1", "linear_2"];

impl AuraConfig {
    /// All linear layers of a network of this configuration, in the order of its modules. The configuration must have
    /// passed [`AuraConfig::check`].
    #[must_use]
    pub fn linears(&self) -> Vec<LinearShape> {
        let (d, hidden) = (self.width(), self.hidden());
        let mut found = Vec::new();
        let mut add = |name: String, d_in: i64, d_out: i64| found.push(LinearShape { name, d_in, d_out });
        add("pos_embed.proj".into(), self.patch(), d);
        add("context_embedder".into(), self.joint_attention_dim, d);
        add("time_step_proj.linear_1".into(), TIME_CHANNELS, d);
        add("time_step_proj.linear_2".into(), d, d);
        let mut block = |list: &str, layer: i64, norms: &[&str], attention: &[&str], streams: &[&str]| {
            let mut own = |name: String, d_in, d_out| add(format!("{list}.{layer}.{name}"), d_in, d_out);
            norms.iter().for_each(|norm| own(format!("{norm}.linear"), d, 6 * d));
            attention.iter().for_each(|name| own(format!("attn.{name}"), d, d));
            for stream in streams {
                GATED.iter().for_each(|name| own(format!("{stream}.{name}"), d, hidden));
                own(format!("{stream}.out_projection"), hidden, d);
            }
        };
        for layer in 0..self.num_mmdit_layers {
            let both = ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out"];
            block("joint_transformer_blocks", layer, &["norm1", "norm1_context"], &both, &["ff", "ff_context"]);
        }
        for layer in 0..self.num_single_dit_layers {
            block("single_transformer_blocks", layer, &["norm1"], &["to_q", "to_k", "to_v", "to_out.0"], &["ff"]);
        }
        add("norm_out.linear".into(), d, 2 * d);
        add("proj_out".into(), d, self.patch());
        found
    }

    /// Numbers of all weights of a network of this configuration.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let d = self.width();
        let linear: i64 = self.linears().iter().map(|l| l.d_in * l.d_out).sum();
        // The biases of the patches and of the time, the table of positions, the registers.
        let rest = 3 * d + self.pos_embed_max_size * d + REGISTERS * d;
        (linear + rest).max(0).unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What diffusers counts of its class with these sizes, without weights: 6.8 billion, as published.
    #[test]
    fn the_published_network_has_its_published_size() {
        let config = AuraConfig { pos_embed_max_size: 9216, ..AuraConfig::default() };
        assert_eq!(config.linears().len(), 326);
        assert_eq!(config.linears().iter().map(|l| l.d_in * l.d_out).sum::<i64>(), 6_830_260_224);
        assert_eq!(config.parameters(), 6_858_605_568);
    }
}
