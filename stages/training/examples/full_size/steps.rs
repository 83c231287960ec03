//! One forward pass, one round of distillation, one round of DiffusionNFT: seconds, memory, share of what the device can, and what libtorch
//! asked of it.

use crate::Options;
use anyhow::{Context as _, Result, bail, ensure};
use opdflow_kinds::cost::passes::Passes;
use opdflow_models::base_files::BaseFiles;
use opdflow_models::condition::Condition;
use opdflow_models::families::sd3::Sd3Folder;
use opdflow_models::families::sd3::Sd3Network;
use opdflow_models::family::Architecture as _;
use opdflow_models::field::{Field, Guidance};
use opdflow_models::lora::{Lora, LoraConfig};
use opdflow_models::memory::attempt;
use opdflow_models::rng::normal;
use opdflow_profiler::{Profile, profiled};
use opdflow_ranks::Ranks;
use opdflow_training::distillation::{Distillation, StudentSampling, TaskTeacher};
use opdflow_training::nft::{Nft, NftConfig};
use opdflow_training::opd::{Opd, OpdConfig, Remaining};
use opdflow_training::optim::{AdamW, AdamWConfig, EmaConfig};
use opdflow_training::task::{RewardValues, Sample, Task, of_parts};
use opdflow_training::teacher::{Canvas, RolloutCollector, Sampling, per_sample};
use opdflow_training::train::{Learner, LrSchedule};
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::{Cuda, Device, Kind, Tensor};

/// Text tokens of a prompt: 77 of CLIP and 256 of T5.
const TOKENS: i64 = 77 + 256;

/// Prompts that are noise, and a reward that is the mean of the latent.
struct Noise {
    prompts: Condition,
}

impl Task for Noise {
    fn name(&self) -> &str {
        "noise"
    }
    fn prompts(&self) -> usize {
        self.prompts.len() as usize
    }
    fn condition(&self, prompts: &[usize]) -> Result<Condition> {
        Ok(self.prompts.rows(&prompts.iter().map(|&p| p as i64).collect::<Vec<_>>()))
    }
    fn score(&mut self, _: &[usize], _: Range<usize>, sample: &mut Sample) -> Result<Vec<RewardValues>> {
        let mean =
            |latents: &Tensor| Ok(Vec::try_from(per_sample(latents).to_device(Device::Cpu).to_kind(Kind::Double))?);
        let values = of_parts(sample, mean)?;
        Ok(vec![RewardValues { name: "mean".into(), weight: 1.0, values }])
    }
}

/// What all measurements share.
struct Setting {
    model: Sd3Network,
    device: Device,
    kind: Kind,
    /// `[channels, height, width]` of a latent.
    shape: [i64; 3],
    steps: usize,
    images: usize,
    gradient_checkpointing: bool,
    passes: Passes,
    /// Where traces are kept, if rounds are looked into.
    traces: Option<PathBuf>,
    /// Operations a second of a large product, as measured.
    peak: f64,
}

pub fn run(from: &Path, options: &Options) -> Result<()> {
    let device = device_of(options)?;
    tch::set_num_threads(options.number("--threads", 1)?.try_into()?);
    let kind = match options.text("--dtype", "bf16")? {
        "bf16" => Kind::BFloat16,
        "f32" => Kind::Float,
        other => bail!("--dtype {other}: expected bf16 or f32"),
    };
    let (batch, pixels) = (options.count("--batch", 4)?, options.number("--pixels", 512)?);
    let (images, steps) = (options.count("--images", batch)?, options.count("--steps", 3)?);
    ensure!(steps > 1, "--steps {steps}: the last one is not trained, so at least 2");
    let clock = Instant::now();
    let folder = Sd3Folder::of(BaseFiles::of(from)?, None)?;
    let (transformer, _) = folder.transformer(device, kind)?;
    let model = Sd3Network { model: folder.sd3()?, transformer };
    let loading = clock.elapsed().as_secs_f64();
    let shape = model.model.latent(pixels, pixels)?;
    let traces = options.text("--profile", "")?;
    let setting = Setting {
        device,
        kind,
        shape,
        steps,
        images,
        gradient_checkpointing: options.text("--recompute", "no")? == "yes",
        passes: Passes::of(&model.model, shape, TOKENS.unsigned_abs()),
        traces: (!traces.is_empty()).then(|| PathBuf::from(traces)),
        peak: peak(device, kind)?,
        model,
    };
    setting.traces.as_ref().map_or(Ok(()), std::fs::create_dir_all)?;
    let forward = setting.forward(batch)?;
    let distillation = fitted(batch, |micro| setting.distillation(micro))?;
    let reinforcement = fitted(batch, |micro| setting.reinforcement(micro))?;
    let parameters = setting.model.model.linears().iter().map(|l| l.d_in * l.d_out).sum::<i64>();
    let told = json!({
        "parameters": parameters, "batch": batch, "images": images, "pixels": pixels, "steps": steps,
        "dtype": options.text("--dtype", "bf16")?, "device": options.text("--device", "cpu")?, "threads": tch::get_num_threads(),
        "recompute": setting.gradient_checkpointing, "loading_s": loading, "product_tflops": setting.peak / 1e12,
        "forward": forward, "opd_round": distillation, "nft_round": reinforcement, "peak_rss_gb": peak_rss()?,
    });
    println!("{told:#}");
    Ok(())
}

/// `--device`, ready to be used.
pub fn device_of(options: &Options) -> Result<Device> {
    let name = options.text("--device", "cpu")?;
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    // First of all: libtorch looks for CUDA once.
    opdflow_models::device::load()?;
    ensure!(Cuda::is_available(), "libtorch finds no CUDA device");
    let index = name.strip_prefix("cuda:").and_then(|n| n.parse().ok());
    Ok(Device::Cuda(index.with_context(|| format!("--device {name}: expected cpu or cuda:N"))?))
}

/// As much as `work` makes of `micro` images at a time, or of half as many, and so on, until it fits.
fn fitted(micro: usize, mut work: impl FnMut(usize) -> Result<Value>) -> Result<Value> {
    match attempt(|| work(micro))? {
        Ok(done) => Ok(done),
        Err(out) if micro == 1 => bail!("memory does not suffice for a single image: {}", out.0),
        Err(_) => fitted(micro.div_ceil(2), work),
    }
}

impl Setting {
    /// Conditions of `n` prompts that are noise.
    fn prompts(&self, n: usize, seed: u64) -> Result<Condition> {
        let config = &self.model.model.transformer;
        let drawn = |shape: &[i64], seed| normal(shape, seed, self.device).to_kind(self.kind);
        let context = drawn(&[n as i64, TOKENS, config.joint_attention_dim], seed);
        Condition::new([("context", context), ("pooled", drawn(&[n as i64, config.pooled_projection_dim], seed + 1))])
    }

    fn canvas(&self, micro: usize) -> Canvas {
        let (shape, device, gradient_checkpointing) = (self.shape, self.device, self.gradient_checkpointing);
        Canvas { shape, device, micro: micro as i64, gradient_checkpointing, ranks: Ranks::alone() }
    }

    fn lora(&self, seed: u64) -> Result<Lora> {
        Lora::init(&LoraConfig::joint_attention(32, 64.0), &self.model.model.linears(), seed, self.device)
    }

    /// One pass of `micro` images.
    fn forward(&self, micro: usize) -> Result<Value> {
        let (empty, prompts, lora) = (self.prompts(1, 1)?, self.prompts(micro, 3)?, self.lora(1)?);
        let field = Field { model: &self.model, lora: Some(&lora), guidance: Guidance { scale: 1.0, empty: &empty } };
        let x = self.canvas(micro).noise(micro, 5);
        let work = || {
            let _off = tch::no_grad_guard();
            drop(field.velocity_at(&x, 0.7, &prompts));
            Ok(())
        };
        self.measured("forward", micro, (micro, 1), micro as f64 * self.passes.forward(1.0), work)
    }

    /// A round of distillation: the student's way, and at each state but the last a forward of the teacher and a gradient, of which the
    /// forward is the one of the way.
    fn distillation(&self, micro: usize) -> Result<Value> {
        let (empty, lora, teacher) = (self.prompts(1, 1)?, self.lora(1)?, self.lora(2)?.detached());
        let task = Noise { prompts: self.prompts(self.images, 3)? };
        let teacher = TaskTeacher { lora: &teacher, guidance: 1.0, task: &task };
        let sampling = StudentSampling {
            num_inference_steps: self.steps,
            prompts: self.images,
            guidance_scale: Some(1.0),
            ..StudentSampling::default()
        };
        let (canvas, model) = (self.canvas(micro), &self.model);
        let distillation =
            Distillation { sampling, canvas, model, empty: &empty, lora: &lora, teachers: vec![teacher], seed: 1 };
        let mut opd = Opd { config: OpdConfig::default(), distillation, remaining: Remaining::default() };
        let mut learner = learner(&lora);
        let trained = (self.steps - 1) as f64;
        let each = self.steps as f64 * self.passes.forward(1.0)
            + trained * (self.passes.forward(1.0) + self.passes.backward(1.0, self.gradient_checkpointing));
        let whole = (self.images, self.steps);
        self.measured("opd", micro, whole, each * self.images as f64, || learner.round(&mut opd).map(drop))
    }

    /// A round of DiffusionNFT: a rollout, and at each noise level but one a gradient beside the old policy and the base.
    fn reinforcement(&self, micro: usize) -> Result<Value> {
        let (empty, lora) = (self.prompts(1, 1)?, self.lora(1)?);
        let mut task = Noise { prompts: self.prompts(1, 3)? };
        let group_size = self.images.max(2);
        let sampling = Sampling {
            prompts: 1,
            group_size,
            num_inference_steps: self.steps,
            guidance_scale: 1.0,
            ..Sampling::default()
        };
        let (canvas, model) = (self.canvas(micro), &self.model);
        let collector = RolloutCollector { model, empty: &empty, canvas, sampling, tasks: vec![&mut task], seed: 1 };
        let mut nft = Nft { config: NftConfig::default(), collector, old: lora.detached(), lora: &lora, seen: None };
        let mut learner = learner(&lora);
        let trained = (self.steps - 1) as f64;
        let each = self.steps as f64 * self.passes.forward(1.0)
            + trained * (2.0 * self.passes.forward(1.0) + self.passes.gradient(1.0, self.gradient_checkpointing));
        let whole = (group_size, self.steps);
        self.measured("nft", micro, whole, each * group_size as f64, || learner.round(&mut nft).map(drop))
    }

    /// Seconds of `work`, and what follows from them: `operations` floating-point operations on `images` images in `steps` steps. Where
    /// traces are kept, once more under the profiler.
    fn measured(
        &self,
        name: &str,
        micro: usize,
        (images, steps): (usize, usize),
        operations: f64,
        mut work: impl FnMut() -> Result<()>,
    ) -> Result<Value> {
        let seconds = timed(self.device, &mut work)?;
        let mut told = json!({
            "seconds": seconds, "micro_batch": micro, "images_per_s": images as f64 / seconds, "operations": operations,
            "tflops": operations / seconds / 1e12, "share_of_product": operations / seconds / self.peak,
        });
        if let Some(folder) = &self.traces {
            let ((), profile) = profiled(self.device.is_cuda(), &folder.join(format!("{name}.json")), || {
                work()?;
                settle(self.device);
                Ok(())
            })?;
            told["profile"] = json!(profile);
            told["a_step"] = a_step(&profile, steps * images.div_ceil(micro));
        }
        Ok(told)
    }
}

/// Of one step of one micro-batch.
fn a_step(profile: &Profile, steps: usize) -> Value {
    let each = |n: u64| n as f64 / steps as f64;
    json!({
        "operators": each(profile.operators), "launches": each(profile.launches), "kernels": each(profile.kernels),
        "synchronisations": each(profile.synchronisations), "numbers_read": each(profile.numbers_read),
    })
}

fn learner(lora: &Lora) -> Learner {
    let adam = AdamW::new(AdamWConfig::default(), lora.parameters());
    Learner::new(lora.parameters(), adam, EmaConfig::default(), LrSchedule::default())
}

/// Operations a second of a large product of matrices of this kind: what the device can, as opposed to what is written on it.
fn peak(device: Device, kind: Kind) -> Result<f64> {
    let (side, products) = if device.is_cuda() { (8192_i64, 20) } else { (1024, 4) };
    let x = normal(&[side, side], 7, device).to_kind(kind);
    let seconds = timed(device, || {
        let _off = tch::no_grad_guard();
        (0..products).for_each(|_| drop(x.mm(&x)));
        Ok(())
    })?;
    Ok(2.0 * (side as f64).powi(3) * f64::from(products) / seconds)
}

/// Seconds of one run; on a GPU the first one, which also sets up kernels, does not count.
fn timed(device: Device, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    if device.is_cuda() {
        work()?;
    }
    settle(device);
    let clock = Instant::now();
    work()?;
    settle(device);
    Ok(clock.elapsed().as_secs_f64())
}

/// Waits for the GPU.
fn settle(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// The largest resident memory of this process so far, in units of 10^9 bytes.
fn peak_rss() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0 / 1e9)
}
