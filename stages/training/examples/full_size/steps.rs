//! One forward pass, one round of distillation, one round of DiffusionNFT: seconds and memory.

use crate::Options;
use anyhow::{Context as _, Result, bail};
use opdflow_models::base_files::BaseFiles;
use opdflow_models::condition::Condition;
use opdflow_models::families::sd3::Sd3Folder;
use opdflow_models::families::sd3::Sd3Network;
use opdflow_models::family::Architecture as _;
use opdflow_models::field::{Field, Guidance};
use opdflow_models::lora::{Lora, LoraConfig};
use opdflow_models::rng::normal;
use opdflow_ranks::Ranks;
use opdflow_training::distillation::{Distillation, StudentSampling, TaskTeacher};
use opdflow_training::nft::{Nft, NftConfig};
use opdflow_training::objective::Objective;
use opdflow_training::opd::{Opd, OpdConfig, Remaining};
use opdflow_training::optim::{AdamW, AdamWConfig, EmaConfig};
use opdflow_training::task::{RewardValues, Sample, Task, of_parts};
use opdflow_training::teacher::{Canvas, RolloutCollector, Sampling, per_sample};
use opdflow_training::train::{Learner, LrSchedule};
use std::ops::Range;
use std::path::Path;
use std::time::Instant;
use tch::{Cuda, Device, Kind, Tensor};

/// Denoising steps of a round: enough to see one step's time, few enough to wait for on a CPU.
const STEPS: usize = 3;

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

pub fn run(from: &Path, options: &Options) -> Result<()> {
    let device = match options.text("--device", "cpu")? {
        "cpu" => Device::Cpu,
        name => {
            // First of all: libtorch looks for CUDA once.
            opdflow_models::device::load()?;
            anyhow::ensure!(Cuda::is_available(), "libtorch finds no CUDA device");
            let index = name.strip_prefix("cuda:").and_then(|n| n.parse().ok());
            Device::Cuda(index.with_context(|| format!("--device {name}: expected cpu or cuda:N"))?)
        }
    };
    tch::set_num_threads(options.number("--threads", 1)?.try_into()?);
    let kind = match options.text("--dtype", "bf16")? {
        "bf16" => Kind::BFloat16,
        "f32" => Kind::Float,
        other => bail!("--dtype {other}: expected bf16 or f32"),
    };
    let (batch, pixels) = (options.number("--batch", 4)?, options.number("--pixels", 512)?);
    let clock = Instant::now();
    let folder = Sd3Folder::of(BaseFiles::of(from)?, None)?;
    let (transformer, _) = folder.transformer(device, kind)?;
    let model = Sd3Network { model: folder.sd3()?, transformer };
    let loading = clock.elapsed().as_secs_f64();
    let (config, linears) = (&model.model.transformer, model.model.linears());
    let shape = model.model.latent(pixels, pixels)?;
    let embedded = |n: i64, seed: u64| {
        let context = normal(&[n, TOKENS, config.joint_attention_dim], seed, device).to_kind(kind);
        let pooled = normal(&[n, config.pooled_projection_dim], seed + 1, device).to_kind(kind);
        Condition::new([("context", context), ("pooled", pooled)])
    };
    let (empty, prompts) = (embedded(1, 1)?, embedded(batch, 3)?);
    let gradient_checkpointing = options.text("--recompute", "no")? == "yes";
    let canvas = Canvas { shape, device, micro: batch, gradient_checkpointing, ranks: Ranks::alone() };
    let rank = LoraConfig::joint_attention(32, 64.0);
    let fresh = |seed| Lora::init(&rank, &linears, seed, device);
    let (lora, teacher) = (fresh(1)?, fresh(2)?.detached());

    let field = Field { model: &model, lora: Some(&lora), guidance: Guidance { scale: 1.0, empty: &empty } };
    let x = canvas.noise(batch as usize, 5);
    let forward = timed(device, || {
        let _off = tch::no_grad_guard();
        drop(field.velocity_at(&x, 0.7, &prompts));
        Ok(())
    })?;
    let mut learner = Learner::new(
        lora.parameters(),
        AdamW::new(AdamWConfig::default(), lora.parameters()),
        EmaConfig::default(),
        LrSchedule::default(),
    );
    let task = Noise { prompts: prompts.narrow(0, batch) };
    let teacher = TaskTeacher { lora: &teacher, guidance: 1.0, task: &task };
    let sampling = StudentSampling {
        num_inference_steps: STEPS,
        prompts: batch as usize,
        guidance_scale: Some(1.0),
        ..StudentSampling::default()
    };
    let distillation =
        Distillation { sampling, canvas, model: &model, empty: &empty, lora: &lora, teachers: vec![teacher], seed: 1 };
    let mut opd = Opd { config: OpdConfig::default(), distillation, remaining: Remaining::default() };
    let distillation = round(device, &mut learner, &mut opd)?;
    let mut task = Noise { prompts };
    let sampling = Sampling {
        prompts: 1,
        group_size: batch.max(2) as usize,
        num_inference_steps: STEPS,
        guidance_scale: 1.0,
        ..Sampling::default()
    };
    let collector =
        RolloutCollector { model: &model, empty: &empty, canvas, sampling, tasks: vec![&mut task], seed: 1 };
    let mut nft = Nft { config: NftConfig::default(), collector, old: lora.detached(), lora: &lora, seen: None };
    let reinforcement = round(device, &mut learner, &mut nft)?;
    let told = serde_json::json!({
        "parameters": linears.iter().map(|l| l.d_in * l.d_out).sum::<i64>(), "batch": batch, "pixels": pixels, "steps": STEPS,
        "dtype": options.text("--dtype", "bf16")?, "device": options.text("--device", "cpu")?, "threads": tch::get_num_threads(),
        "recompute": gradient_checkpointing,
        "loading_s": loading, "forward_s": forward, "opd_round_s": distillation, "nft_round_s": reinforcement,
        "peak_rss_gb": peak_rss()?,
    });
    println!("{told}");
    Ok(())
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

fn round(device: Device, learner: &mut Learner, objective: &mut dyn Objective) -> Result<f64> {
    timed(device, || learner.round(objective).map(drop))
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
