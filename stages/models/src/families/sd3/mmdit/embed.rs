//! What enters the blocks: patches with positions, and the conditioning vector of time and pooled text.

use crate::families::sd3::MmditConfig;
use crate::init::Init;
use crate::lora::Lora;
use crate::nn::{Linear, LinearShape, TIME_CHANNELS};
use crate::transfer::send;
use crate::transformer::{time_code, time_frequencies};
use crate::weights::Scope;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// diffusers `PatchEmbed` with cropped sine-cosine positions.
pub(super) struct PatchEmbed {
    w: Tensor,
    b: Tensor,
    patch: i64,
    table: Positions,
}

enum Positions {
    /// `[max, max, D]`, cropped around its middle.
    Cropped(Tensor),
    /// Laid out for the latent's own size.
    Fitted { base: i64, width: i64 },
}

impl PatchEmbed {
    pub(super) fn new(scope: &Scope, config: &MmditConfig) -> Result<PatchEmbed> {
        let (d, c, p) = (config.width(), config.in_channels, config.patch_size);
        let proj = scope.sub("proj");
        let w = proj.get("weight", &[d, c, p, p], Init::Xavier)?;
        let b = proj.get("bias", &[d], Init::Zeros)?;
        let base = config.sample_size / p;
        let table = match config.pos_embed_max_size {
            Some(max) => {
                let make = || sincos(d, max, max, base).unsqueeze(0);
                Positions::Cropped(scope.buffer("pos_embed", &[1, max * max, d], make)?.view([max, max, d]))
            }
            None => Positions::Fitted { base, width: d },
        };
        Ok(PatchEmbed { w, b, patch: p, table })
    }

    /// `[B, C, H, W]` to `[B, H/p W/p, D]`. The convolution with stride p is a product over each patch.
    pub(super) fn forward(&self, x: &Tensor, h: i64, w: i64) -> Tensor {
        let (size, p) = (x.size(), self.patch);
        let (b, c) = (size[0], size[1]);
        let patches = x.view([b, c, h, p, w, p]).permute([0, 2, 4, 1, 3, 5]).reshape([b, h * w, c * p * p]);
        // Flattened here, not once and for all: a view taken now would miss gradients that are turned on later.
        patches.linear(&self.w.flatten(1, 3), Some(&self.b)) + self.positions(h, w, x)
    }

    fn positions(&self, h: i64, w: i64, like: &Tensor) -> Tensor {
        match &self.table {
            Positions::Cropped(t) => {
                let (max, d) = (t.size()[0], t.size()[2]);
                t.narrow(0, (max - h) / 2, h).narrow(1, (max - w) / 2, w).reshape([1, h * w, d])
            }
            Positions::Fitted { base, width } => {
                send(&sincos(*width, h, w, *base), like.device()).to_kind(like.kind()).unsqueeze(0)
            }
        }
    }
}

/// diffusers `get_2d_sincos_pos_embed`: `[h w, d]`, the column's sines and cosines before the row's.
fn sincos(d: i64, h: i64, w: i64, base: i64) -> Tensor {
    let cpu = (Kind::Float, Device::Cpu);
    // Two divisions in f32, as there: one would round otherwise.
    let places = |n: i64| Tensor::arange(n, cpu) / (n as f64 / base as f64);
    let omega = Tensor::arange(d / 4, (Kind::Double, Device::Cpu)) / (d as f64 / 4.0);
    let omega: Tensor = omega * -(10000f64.ln());
    let omega = omega.exp();
    let axis = |p: Tensor| {
        let out = p.to_kind(Kind::Double).outer(&omega);
        Tensor::cat(&[out.sin(), out.cos()], 1)
    };
    let (rows, cols) = (axis(places(h)), axis(places(w)));
    let cols = cols.unsqueeze(0).expand([h, w, d / 2], false);
    let rows = rows.unsqueeze(1).expand([h, w, d / 2], false);
    Tensor::cat(&[cols, rows], 2).reshape([h * w, d]).to_kind(Kind::Float)
}

/// diffusers `CombinedTimestepTextProjEmbeddings`.
pub(super) struct TimeTextEmbed {
    freqs: Tensor,
    time: [Linear; 2],
    text: [Linear; 2],
}

impl TimeTextEmbed {
    pub(super) fn new(scope: &Scope, config: &MmditConfig) -> Result<TimeTextEmbed> {
        let d = config.width();
        let (time, text) = (scope.sub("timestep_embedder"), scope.sub("text_embedder"));
        let layer = |s: &Scope, name: &str, d_in: i64, init: Init| Linear::new(&s.sub(name), d_in, d, true, init);
        Ok(TimeTextEmbed {
            freqs: time_frequencies(scope.device()),
            time: [
                layer(&time, "linear_1", TIME_CHANNELS, Init::Normal(0.02))?,
                layer(&time, "linear_2", d, Init::Normal(0.02))?,
            ],
            text: [
                layer(&text, "linear_1", config.pooled_projection_dim, Init::Xavier)?,
                layer(&text, "linear_2", d, Init::Xavier)?,
            ],
        })
    }

    /// `timestep` `[B]`, `pooled` `[B, P]` to `[B, D]`. The time code is made in f32 whatever the model's kind.
    pub(super) fn forward(&self, timestep: &Tensor, pooled: &Tensor, lora: Option<&Lora>) -> Tensor {
        let code = time_code(timestep, &self.freqs, pooled.kind());
        let [time1, time2] = &self.time;
        let [text1, text2] = &self.text;
        let time = time2.forward(&time1.forward(&code, lora).silu(), lora);
        time + text2.forward(&text1.forward(pooled, lora).silu(), lora)
    }

    pub(super) fn linears(&self, out: &mut Vec<LinearShape>) {
        out.extend(self.time.iter().chain(&self.text).map(Linear::shape));
    }
}
