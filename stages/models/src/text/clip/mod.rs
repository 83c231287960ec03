//! The CLIP text encoders: transformers `CLIPTextModelWithProjection`, and `CLIPTextModel` without the projection.

mod layer;

use crate::init::Init;
use crate::nn::{Embedding, LayerNorm, Linear};
use crate::weights::Scope;
use anyhow::{Result, ensure};
pub use layer::Layer;
pub use opdflow_spec::text::clip::*;
use tch::{Kind, Tensor};

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
