//! A loaded model folder with everything that makes pictures of prompts.

use crate::device;
use crate::embeddings::Embeddings;
use crate::pictures::from_tensor;
use crate::precision::Precision;
use crate::record::Record;
use anyhow::{Context as _, Result};
use opdflow_flow::field::{Field, Guidance};
use opdflow_flow::lora::Lora;
use opdflow_flow::pipeline::{Options, Pipeline};
use opdflow_flow::rng::{derive, normal};
use opdflow_flow::rollout::{Keep, Way, rollout};
use opdflow_flow::teacher::Canvas;
use opdflow_flow::text::embed::{Embedded, MAX_SEQUENCE_LENGTH, TextEncoders};
use opdflow_flow::{Schedule, Solver};
use opdflow_stage::cache::Digest;
use opdflow_stage::{Fault, StageContext};
use opdflow_world::Picture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// How pictures are made of prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shot {
    /// Denoising steps.
    #[schemars(range(min = 1, max = 1000))]
    pub steps: usize,
    /// Guidance scale; 1 is none.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub guidance: f64,
    /// Solver.
    pub solver: Solver,
    /// Seed of the starting noise. Picture `i` starts from noise that depends on this seed and `i` alone.
    #[schemars(range(min = 0, max = u64::MAX))]
    pub seed: u64,
}

impl Default for Shot {
    /// The evaluation of the papers: 40 Euler steps.
    fn default() -> Self {
        Self { steps: 40, guidance: 1.0, solver: Solver::default(), seed: 0 }
    }
}

/// A base model, ready.
pub struct Studio {
    /// Transformer, VAE and scheduler.
    pub pipeline: Pipeline,
    text: RefCell<Text>,
    /// The encoded empty prompt.
    pub empty: Embedded,
    /// Latents and device.
    pub canvas: Canvas,
    /// Digest of the model folder: adapters name the base that they belong to by it.
    pub base: Digest,
}

/// The device of the job, with as many threads as the job may use.
///
/// # Errors
/// A GPU is asked for that is not there.
pub fn device(context: &StageContext) -> Result<Device> {
    device::open(&context.job().device, context.job().threads)
}

/// What becomes of prompts.
enum Text {
    /// The encoders encode them whenever they are asked for.
    Live(Box<TextEncoders>),
    /// The encoders are gone; these prompts were encoded before, a row each, on the CPU.
    Recited(HashMap<String, Embedded>),
    /// They never were here: an earlier stage has encoded the prompts.
    Kept(Embeddings),
}

impl Text {
    fn embed(&self, prompts: &[&str], canvas: &Canvas, kind: Kind) -> Result<Embedded> {
        match self {
            Self::Live(text) => text.embed(prompts, text.t5_length(MAX_SEQUENCE_LENGTH)),
            Self::Recited(known) => {
                let row = |p: &&str| known.get(*p).with_context(|| format!("the prompt {p:?} was not announced"));
                let rows = prompts.iter().map(row).collect::<Result<Vec<_>>>()?;
                Ok(Embedded::cat(&rows).to(canvas.device, kind))
            }
            Self::Kept(embeddings) => Ok(embeddings.embed(prompts)?.to(canvas.device, kind)),
        }
    }
}

impl Studio {
    /// Loads the model on input `port`; its text encoders too, unless an input `embeddings` is there. `micro` bounds the
    /// batch of one forward; `size` is the side of a picture in pixels, by default the model's own; `precision` is that of
    /// transformer and text encoders.
    ///
    /// # Errors
    /// The folder is incomplete or damaged; the size does not fit the model.
    pub fn open(
        context: &StageContext,
        port: &str,
        micro: usize,
        size: Option<i64>,
        precision: Precision,
    ) -> Result<Self> {
        let device = self::device(context)?;
        let base = context.object(port).context("a model on no port")?.digest;
        let options = Options { device, kind: precision.kind(), drop_t5: false };
        let unfit = |e: anyhow::Error| Fault::user(format!("{e:#}"));
        let (pipeline, text) = match context.maybe_input("embeddings")? {
            Some(kept) => {
                let folder = context.input_parts(port, &["model_index.json", "transformer", "vae", "scheduler"])?;
                let pipeline = Pipeline::without_text(folder, options).map_err(unfit)?;
                (pipeline, Text::Kept(Embeddings::open(&kept, base, device)?))
            }
            None => {
                let mut pipeline = Pipeline::load(context.input(port)?, options).map_err(unfit)?;
                let text = pipeline.text.take().context("a pipeline without text encoders")?;
                (pipeline, Text::Live(Box::new(text)))
            }
        };
        let config = pipeline.transformer.config();
        let side = match size {
            Some(pixels) => {
                pipeline.vae.check_picture(pixels, pixels).map_err(|e| Fault::user(format!("{e:#}")))?;
                pixels / pipeline.vae.config().factor()
            }
            None => config.sample_size,
        };
        pipeline.transformer.check_latent(config.in_channels, side, side).map_err(|e| Fault::user(format!("{e:#}")))?;
        let canvas = Canvas {
            shape: [config.in_channels, side, side],
            shift: pipeline.scheduler.shift,
            device,
            micro: micro.max(1) as i64,
            recompute: false,
        };
        let empty = text.embed(&[""], &canvas, pipeline.transformer.kind())?;
        Ok(Self { pipeline, text: RefCell::new(text), empty, canvas, base })
    }

    /// Says that these are all the prompts there will be. A model of 16 bits, which is a large one, encodes them now, one
    /// by one, and lets the encoders go: they are larger than the transformer. One of 32 bits keeps its encoders, so that
    /// what is encoded together, and with it the last bit of each result, stays what it was.
    ///
    /// # Errors
    /// A tokenizer that does not belong to its encoder.
    pub fn recite<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> Result<()> {
        let mut held = self.text.borrow_mut();
        let Text::Live(text) = &*held else { return Ok(()) };
        if self.pipeline.transformer.kind() == Kind::Float {
            return Ok(());
        }
        let mut known = HashMap::new();
        for record in records {
            if !known.contains_key(&record.text) {
                let row = text.embed(&[&record.text], text.t5_length(MAX_SEQUENCE_LENGTH))?;
                known.insert(record.text.clone(), row.to(Device::Cpu, row.pooled.kind()));
            }
        }
        *held = Text::Recited(known);
        Ok(())
    }

    /// Encodes prompts, a row each.
    ///
    /// # Errors
    /// A tokenizer that does not belong to its encoder; a prompt that was not embedded.
    pub fn embed(&self, prompts: &[&str]) -> Result<Embedded> {
        self.text.borrow().embed(prompts, &self.canvas, self.pipeline.transformer.kind())
    }

    /// The velocity field with an adapter (or none) and a guidance scale.
    #[must_use]
    pub fn field<'a>(&'a self, lora: Option<&'a Lora>, guidance: f64) -> Field<'a> {
        Field { model: &self.pipeline.transformer, lora, guidance: Guidance { scale: guidance, empty: &self.empty } }
    }

    /// Decodes latents, `[B, C, h, w]`.
    #[must_use]
    pub fn decode(&self, latents: &Tensor) -> Vec<Picture> {
        let _off = tch::no_grad_guard();
        let vae = &self.pipeline.vae;
        self.canvas
            .micros(latents.size()[0])
            .flat_map(|(start, count)| from_tensor(&vae.decode(&vae.unscale(&latents.narrow(0, start, count)))))
            .collect()
    }

    /// One picture of each prompt. `watch` is told how many are done.
    ///
    /// # Errors
    /// A prompt that cannot be encoded, or what `watch` says.
    pub fn shoot(
        &self,
        records: &[Record],
        lora: Option<&Lora>,
        shot: &Shot,
        mut watch: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Picture>> {
        let schedule = Schedule::new(shot.steps, self.canvas.shift);
        let [c, h, w] = self.canvas.shape;
        let mut pictures = Vec::with_capacity(records.len());
        for chunk in records.chunks(self.canvas.micro as usize) {
            let prompts: Vec<&str> = chunk.iter().map(|r| r.text.as_str()).collect();
            let condition = self.embed(&prompts)?;
            let first = pictures.len() as u64;
            // Each picture has noise of its own, so that it does not matter which others it is made with.
            let own = |purpose: &str| {
                let one = |i| normal(&[c, h, w], derive(shot.seed, purpose, first + i), self.canvas.device);
                Tensor::stack(&(0..chunk.len() as u64).map(one).collect::<Vec<_>>(), 0)
            };
            let micro = self.canvas.micro;
            let along = Way { schedule: &schedule, solver: &shot.solver, window: None, keep: Keep::Last, micro };
            let field = self.field(lora, shot.guidance);
            let way = rollout(&field, &condition, &own("shot"), &along, &mut |j| own(&format!("step {j}")));
            pictures.extend(self.decode(way.last()));
            watch(pictures.len())?;
        }
        Ok(pictures)
    }
}
