//! The linear layers of a network by its configuration alone: what an adapter can be for, before there is a network.

use super::MmditConfig;
use crate::linears::LinearShape;
use crate::nn::TIME_CHANNELS;

impl MmditConfig {
    /// All linear layers of a network of this configuration, in the order of its modules. The configuration must have
    /// passed [`MmditConfig::check`].
    #[must_use]
    pub fn linears(&self) -> Vec<LinearShape> {
        let d = self.width();
        let mut found = Vec::new();
        let mut add = |name: String, d_in: i64, d_out: i64| found.push(LinearShape { name, d_in, d_out });
        for (part, d_in) in [("timestep_embedder", TIME_CHANNELS), ("text_embedder", self.pooled_projection_dim)] {
            add(format!("time_text_embed.{part}.linear_1"), d_in, d);
            add(format!("time_text_embed.{part}.linear_2"), d, d);
        }
        add("context_embedder".into(), self.joint_attention_dim, d);
        for layer in 0..self.num_layers {
            let (last, dual) = (layer == self.num_layers - 1, self.dual_attention_layers.contains(&layer));
            let mut own = |name: &str, d_in, d_out| add(format!("transformer_blocks.{layer}.{name}"), d_in, d_out);
            own("norm1.linear", d, if dual { 9 } else { 6 } * d);
            own("norm1_context.linear", d, if last { 2 } else { 6 } * d);
            for name in ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0"] {
                own(&format!("attn.{name}"), d, d);
            }
            if !last {
                own("attn.to_add_out", d, d);
            }
            if dual {
                for name in ["to_q", "to_k", "to_v", "to_out.0"] {
                    own(&format!("attn2.{name}"), d, d);
                }
            }
            for stream in ["ff", "ff_context"].into_iter().take(if last { 1 } else { 2 }) {
                own(&format!("{stream}.net.0.proj"), d, 4 * d);
                own(&format!("{stream}.net.2"), 4 * d, d);
            }
        }
        add("norm_out.linear".into(), d, 2 * d);
        add("proj_out".into(), d, self.patch_size * self.patch_size * self.channels_out());
        found
    }
}
