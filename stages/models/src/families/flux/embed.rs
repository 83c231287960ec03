//! The conditioning vector of time, guidance and pooled text.

use super::FluxConfig;
use crate::init::Init;
use crate::lora::Lora;
use crate::nn::{Linear, LinearShape, TIME_CHANNELS};
use crate::schedule::TRAIN_STEPS;
use crate::transformer::{time_code, time_frequencies};
use crate::weights::Scope;
use anyhow::Result;
use tch::{Kind, Tensor};

/// diffusers `TimestepEmbedding`, `PixArtAlphaTextProjection`: two linear layers with SiLU between.
struct TwoLayers([Linear; 2]);

impl TwoLayers {
    fn new(scope: &Scope, d_in: i64, d: i64, init: Init) -> Result<TwoLayers> {
        let layer = |name: &str, d_in: i64| Linear::new(&scope.sub(name), d_in, d, true, init);
        Ok(TwoLayers([layer("linear_1", d_in)?, layer("linear_2", d)?]))
    }

    fn forward(&self, x: &Tensor, lora: Option<&Lora>) -> Tensor {
        let [first, second] = &self.0;
        second.forward(&first.forward(x, lora).silu(), lora)
    }
}

/// diffusers `CombinedTimestepGuidanceTextProjEmbeddings`, or `CombinedTimestepTextProjEmbeddings` without the guidance.
pub(super) struct TimeTextEmbed {
    frequencies: Tensor,
    time: TwoLayers,
    guidance: Option<TwoLayers>,
    text: TwoLayers,
}

impl TimeTextEmbed {
    pub(super) fn new(scope: &Scope, config: &FluxConfig) -> Result<TimeTextEmbed> {
        let d = config.width();
        let coded = |name: &str| TwoLayers::new(&scope.sub(name), TIME_CHANNELS, d, Init::Normal(0.02));
        Ok(TimeTextEmbed {
            frequencies: time_frequencies(scope.device()),
            time: coded("timestep_embedder")?,
            guidance: config.guidance_embeds.then(|| coded("guidance_embedder")).transpose()?,
            text: TwoLayers::new(&scope.sub("text_embedder"), config.pooled_projection_dim, d, Init::Xavier)?,
        })
    }

    /// `timestep` and `guidance` `[B]` (the first already 1000 sigma), `pooled` `[B, P]` to `[B, D]`. Codes are made in f32
    /// whatever the model's kind.
    pub(super) fn forward(&self, timestep: &Tensor, guidance: &Tensor, pooled: &Tensor, lora: Option<&Lora>) -> Tensor {
        let code = |t: &Tensor| time_code(t, &self.frequencies, pooled.kind());
        let mut sum = self.time.forward(&code(timestep), lora);
        if let Some(embedder) = &self.guidance {
            let scaled = guidance.to_kind(Kind::Float) * TRAIN_STEPS;
            sum += embedder.forward(&code(&scaled), lora);
        }
        sum + self.text.forward(pooled, lora)
    }

    pub(super) fn linears(&self, out: &mut Vec<LinearShape>) {
        let all = [Some(&self.time), self.guidance.as_ref(), Some(&self.text)];
        out.extend(all.into_iter().flatten().flat_map(|two| two.0.iter().map(Linear::shape)));
    }
}
