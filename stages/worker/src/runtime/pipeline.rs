//! A loaded model folder with everything that makes images of prompts.

use crate::artefacts::embeddings::Embeddings;
use crate::artefacts::origin::Origin;
use crate::runtime::beside::{Judged, beside};
use crate::runtime::images::{self, from_tensor};
use crate::runtime::ranks::{joined, parted};
use crate::runtime::unfit::unfit;
use crate::runtime::{device, precision};
use anyhow::{Context as _, Result};
use opdflow_api::cache::Digest;
use opdflow_api::warning::TRUNCATED;
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::cost::passes::Passes;
use opdflow_kinds::model::sampling::ImageSampling;
use opdflow_kinds::precision::Precision;
use opdflow_kinds::prompt::record::Record;
use opdflow_models::condition::Condition;
use opdflow_models::families;
use opdflow_models::family::Role;
use opdflow_models::field::{Field, Guidance};
use opdflow_models::finite::first_broken_row;
use opdflow_models::lora::Lora;
use opdflow_models::network::{Autoencoder, Cut, Network, Options, Text as Encode};
use opdflow_models::rng::{derive, normal};
use opdflow_models::rollout::{Keep, RolloutOptions, rollout};
use opdflow_ranks::{Ranks, least_common};
use opdflow_rewards::Image;
use opdflow_training::teacher::Canvas;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// A base model, ready.
pub struct Pipeline {
    /// The velocity network.
    pub network: Box<dyn Network>,
    autoencoder: Box<dyn Autoencoder>,
    text: RefCell<Text>,
    /// The encoded empty prompt.
    pub empty: Condition,
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
    // A launcher that is not ours may show each process all GPUs of its host.
    let local = context.rank().map_or(0, |rank| rank.local);
    device::open(&context.job().device, context.job().threads, local)
}

/// How prompts are encoded.
enum Text {
    /// The encoders are loaded, with what they have encoded.
    Live(Box<Encoders>),
    /// The encoders are gone; these prompts were encoded before, a row each, on the CPU.
    Encoded(HashMap<String, Condition>),
    /// They were never loaded: an earlier stage has encoded the prompts.
    Kept(Embeddings),
}

/// The text encoders, and prompts that they have encoded: a training asks for the same ones again and again.
struct Encoders {
    text: Box<dyn Encode>,
    /// Tokens of the text; the family's own number if absent.
    length: Option<usize>,
    /// A row for each prompt, on the CPU.
    known: RefCell<HashMap<String, Condition>>,
}

impl Encoders {
    /// Rows are kept up to so many bytes.
    const KEPT: usize = 512 << 20;

    fn new(text: Box<dyn Encode>, length: Option<usize>) -> Self {
        Self { text, length, known: RefCell::default() }
    }

    fn one(&self, prompt: &str) -> Result<Condition> {
        self.text.embed(&[prompt], self.length)
    }

    fn embed(&self, prompts: &[&str], device: Device) -> Result<Condition> {
        let mut known = self.known.borrow_mut();
        let mut rows = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            if let Some(row) = known.get(*prompt) {
                rows.push(row.to_device(device));
                continue;
            }
            let row = self.one(prompt)?;
            if (known.len() + 1) * row.bytes() <= Self::KEPT {
                known.insert((*prompt).to_owned(), row.to_device(Device::Cpu));
            }
            rows.push(row);
        }
        Ok(Condition::cat(&rows.iter().collect::<Vec<_>>()))
    }
}

impl Text {
    fn embed(&self, prompts: &[&str], canvas: &Canvas, kind: Kind) -> Result<Condition> {
        match self {
            Self::Live(encoders) => encoders.embed(prompts, canvas.device),
            Self::Encoded(known) => {
                let row = |p: &&str| known.get(*p).with_context(|| format!("the prompt {p:?} was not announced"));
                let rows = prompts.iter().map(row).collect::<Result<Vec<_>>>()?;
                Ok(Condition::cat(&rows).to(canvas.device, kind))
            }
            Self::Kept(embeddings) => Ok(embeddings.embed(prompts)?.to(canvas.device, kind)),
        }
    }
}

impl Pipeline {
    /// Loads the model on input `port`; its text encoders too, unless an input `embeddings` is there. `micro` bounds the
    /// batch of one forward; `size` is the side of an image in pixels, by default the model's own; `precision` is that of
    /// transformer and text encoders; `length` the number of tokens of a text that is encoded here, the family's own if absent.
    ///
    /// # Errors
    /// The folder is incomplete or damaged; the size does not fit the model.
    pub fn open(
        context: &StageContext,
        port: &str,
        micro: usize,
        size: Option<i64>,
        precision: Precision,
        length: Option<usize>,
    ) -> Result<Self> {
        let device = self::device(context)?;
        let base = context.object(port).context("a model on no port")?.digest;
        let options = Options { device, kind: precision::kind(precision), drop_t5: false };
        let unfit = |e: anyhow::Error| unfit(&e);
        let (folder, text) = match context.maybe_input("embeddings")? {
            Some(kept) => {
                let needed = families::needed(&[Role::Network, Role::Autoencoder, Role::Scheduler]);
                let folder = context.input_parts(port, &needed.iter().map(String::as_str).collect::<Vec<_>>())?;
                let folder = families::open(folder, None).map_err(unfit)?;
                (folder, Text::Kept(Embeddings::open(&kept, base, device)?))
            }
            None => {
                let folder = families::open(context.input(port)?, None).map_err(unfit)?;
                let text = folder.text(options).map_err(unfit)?;
                (folder, Text::Live(Box::new(Encoders::new(text, length))))
            }
        };
        let (network, _) = folder.network(device, options.kind).map_err(unfit)?;
        let autoencoder = folder.autoencoder(device).map_err(unfit)?;
        let model = network.architecture();
        let side = size.unwrap_or(model.sides().own);
        let shape = model.latent(side, side).map_err(|e| Fault::about(&e))?;
        let ranks = joined(context, device)?;
        let canvas = Canvas { shape, device, micro: micro.max(1) as i64, gradient_checkpointing: false, ranks };
        let empty = text.embed(&[""], &canvas, network.kind())?;
        network.takes(&empty).map_err(unfit)?;
        Ok(Self { network, autoencoder, text: RefCell::new(text), empty, canvas, base })
    }

    /// What adapters of this base say that they belong to.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::of(self.base, self.network.architecture().family())
    }

    /// What passes through its networks cost, with text as long as it is here.
    #[must_use]
    pub fn passes(&self) -> Passes {
        // Of what prompts become, the sequences have a row for each token.
        let tokens = self.empty.tensors().filter(|(_, t)| t.dim() == 3).map(|(_, t)| t.size()[1]).max();
        Passes::of(self.network.architecture(), self.canvas.shape, tokens.unwrap_or(0).unsigned_abs())
    }

    /// Says that these are all the prompts there will be, and warns of those that are cut. A model of 16 bits, which is a
    /// large one, encodes them now and lets the encoders go: they are larger than the transformer. One of 32 bits keeps
    /// them, and encodes what is asked for.
    ///
    /// # Errors
    /// A tokenizer that does not belong to its encoder.
    pub fn encode_prompts<'a>(
        &self,
        records: impl IntoIterator<Item = &'a Record>,
        context: &StageContext,
    ) -> Result<()> {
        let mut held = self.text.borrow_mut();
        let Text::Live(encoders) = &*held else { return Ok(()) };
        let records: Vec<&Record> = records.into_iter().collect();
        warn_of_cuts(&*encoders.text, records.iter().map(|r| r.text.as_str()), encoders.length, context)?;
        if self.network.kind() == Kind::Float {
            return Ok(());
        }
        let mut known = HashMap::new();
        for record in records {
            if !known.contains_key(&record.text) {
                let row = encoders.one(&record.text)?;
                known.insert(record.text.clone(), row.to_device(Device::Cpu));
            }
        }
        *held = Text::Encoded(known);
        Ok(())
    }

    /// Encodes prompts, a row each.
    ///
    /// # Errors
    /// A tokenizer that does not belong to its encoder; a prompt that was not embedded; embeddings that are not finite.
    pub fn embed(&self, prompts: &[&str]) -> Result<Condition> {
        let rows = self.text.borrow().embed(prompts, &self.canvas, self.network.kind())?;
        whole_rows(&rows, prompts)?;
        Ok(rows)
    }

    /// The velocity field with an adapter (or none) and a guidance scale.
    #[must_use]
    pub fn field<'a>(&'a self, lora: Option<&'a Lora>, guidance: f64) -> Field<'a> {
        Field { model: &*self.network, lora, guidance: Guidance { scale: guidance, empty: &self.empty } }
    }

    /// Decodes latents in this process. `first`: the number of the first image, for messages.
    pub fn decode_own<'a>(
        &self,
        latents: &Tensor,
        first: usize,
        prompt: impl Fn(usize) -> &'a str,
    ) -> Result<Vec<Image>> {
        let _off = tch::no_grad_guard();
        let whole = |t: &Tensor, start: usize, what: &str| match first_broken_row(t) {
            None => Ok(()),
            Some(row) => Err(broken_image(what, first + start + row, prompt(start + row))),
        };
        whole(latents, 0, "latent")?;
        let mut images = Vec::new();
        for (start, count) in self.canvas.micros(latents.size()[0]) {
            let decoded = self.autoencoder.decode(&latents.narrow(0, start, count));
            whole(&decoded, start as usize, "decoded image")?;
            images.extend(from_tensor(&decoded));
        }
        Ok(images)
    }

    /// One image of each prompt, with batches dealt to the processes of the stage; all of them have all images. `watch` is told about
    /// how many are done.
    ///
    /// # Errors
    /// A prompt that cannot be encoded, an image that is not finite, or what `watch` says. Another process is gone.
    pub fn generate(
        &self,
        records: &[Record],
        lora: Option<&Lora>,
        sampling: &ImageSampling,
        mut watch: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Image>> {
        let Canvas { micro, ranks, device, .. } = self.canvas;
        let own = ranks.own_rows(records.len(), micro as usize);
        let mut images = Vec::with_capacity(own.len());
        for at in own.clone().step_by(micro.max(1) as usize) {
            images.extend(self.sampled(records, at..own.end.min(at + micro as usize), (lora, sampling))?);
            watch((images.len() * ranks.world()).min(records.len()))?;
        }
        images::gathered(images, ranks, device).map_err(parted)
    }

    /// The same of this process's part alone, whose images `judge` sees on a thread beside, a multiple of `together` at a time; it is
    /// told the number of a part's first image among all.
    ///
    /// # Errors
    /// As for [`Pipeline::generate`]; within, what `judge` says.
    pub fn generate_own<T: Send, E: Send>(
        &self,
        records: &[Record],
        by: (Option<&Lora>, &ImageSampling),
        mut watch: impl FnMut(usize) -> Result<()>,
        together: usize,
        judge: impl Fn(&[Image], usize) -> Judged<T, E> + Send,
    ) -> Result<(Vec<Image>, Judged<T, E>)> {
        let Canvas { micro, ranks, .. } = self.canvas;
        let micro = micro.max(1) as usize;
        let unit = least_common(micro, together);
        let own = ranks.own_rows(records.len(), unit);
        let mut images: Vec<Image> = Vec::with_capacity(own.len());
        let judged = beside(own.start, judge, |hand| {
            let mut handed = 0;
            for at in own.clone().step_by(micro) {
                let end = own.end.min(at + micro);
                images.extend(self.sampled(records, at..end, by)?);
                if images.len().is_multiple_of(unit) || end == own.end {
                    hand(images[handed..].to_vec())?;
                    handed = images.len();
                }
                watch((images.len() * ranks.world()).min(records.len()))?;
            }
            Ok(())
        })?;
        Ok((images, judged))
    }

    /// The images of these rows, in one batch. Each has noise of its own, so that it does not matter which others it is made with.
    fn sampled(
        &self,
        records: &[Record],
        rows: Range<usize>,
        (lora, sampling): (Option<&Lora>, &ImageSampling),
    ) -> Result<Vec<Image>> {
        let [c, h, w] = self.canvas.shape;
        let schedule = self.network.architecture().schedule(sampling.num_inference_steps, self.canvas.shape);
        let prompts: Vec<&str> = records[rows.clone()].iter().map(|r| r.text.as_str()).collect();
        let condition = self.embed(&prompts)?;
        let own = |purpose: &str| {
            let one = |i| normal(&[c, h, w], derive(sampling.seed, purpose, i as u64), self.canvas.device);
            Tensor::stack(&rows.clone().map(one).collect::<Vec<_>>(), 0)
        };
        let along = RolloutOptions {
            schedule: &schedule,
            solver: &sampling.solver,
            window: None,
            keep: Keep::Last,
            micro: self.canvas.micro,
            // The batch is this process's own.
            ranks: Ranks::alone(),
        };
        let field = self.field(lora, sampling.guidance_scale);
        let trajectory = rollout(&field, &condition, &own("shot"), &along, &mut |j| own(&format!("step {j}")))?;
        self.decode_own(trajectory.last(), rows.start, |row| prompts[row])
    }
}

/// The fault of an image that would be nothing but black, or noise.
pub fn broken_image(what: &str, image: usize, prompt: &str) -> anyhow::Error {
    Fault::not_finite(format!("the {what} of image {image}, of the prompt {prompt:?}, is not finite"))
        .help("lower the guidance, take `precision: f32`, or an adapter from before it diverged")
        .into()
}

/// Fails at the first prompt whose embedding is not finite.
///
/// # Errors
/// That prompt.
pub fn whole_rows<S: AsRef<str>>(rows: &Condition, prompts: &[S]) -> Result<()> {
    match rows.first_broken_row() {
        None => Ok(()),
        Some(row) => {
            let prompt = prompts.get(row).map_or("", AsRef::as_ref);
            let fault =
                Fault::not_finite(format!("what the text encoders make of the prompt {prompt:?} is not finite"));
            Err(fault.help("take a format with room for larger numbers: `bf16` or `f32` instead of `f16`").into())
        }
    }
}

/// Warns of prompts that are longer than the text encoders read, each counted once.
///
/// # Errors
/// A prompt that cannot be tokenised.
pub fn warn_of_cuts<'a>(
    text: &dyn Encode,
    prompts: impl Iterator<Item = &'a str>,
    length: Option<usize>,
    context: &StageContext,
) -> Result<()> {
    let different: BTreeSet<&str> = prompts.collect();
    for cut in text.cut(&different.into_iter().collect::<Vec<_>>(), length)? {
        if cut.count > 0 {
            context.warn(TRUNCATED, cut_words(&cut), cut.count);
        }
    }
    Ok(())
}

/// What is said of prompts that are not read to their end.
pub fn cut_words(cut: &Cut) -> String {
    let Cut { encoder, length, .. } = cut;
    format!("a prompt is longer than the {length} tokens that {encoder} reads: its end has no influence there")
}
