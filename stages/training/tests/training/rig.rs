//! A small random network with dual attention, tasks whose reward is a function of the latents, and the methods on them.

use anyhow::Result;
use opdflow_models::Solver;
use opdflow_models::condition::Condition;
use opdflow_models::families::sd3::{Mmdit, MmditConfig, Sd3, Sd3Network, published_scheduler};
use opdflow_models::field::{Field, Guidance};
use opdflow_models::lora::{Lora, LoraConfig};
use opdflow_models::rng::{derive, normal};
use opdflow_models::vae::VaeConfig;
use opdflow_models::weights::Weights;
use opdflow_ranks::Ranks;
use opdflow_training::dance::{Dance, DanceConfig};
use opdflow_training::distillation::{Distillation, StudentSampling, TaskTeacher};
use opdflow_training::dmd::{Along, Dmd, DmdConfig, Fake};
use opdflow_training::grpo::{Clipped, Grpo, GrpoConfig, Ratio};
use opdflow_training::nft::{Decay, Nft, NftConfig};
use opdflow_training::objective::{Objective, Report};
use opdflow_training::opd::{Opd, OpdConfig, Remaining};
use opdflow_training::optim::AdamWConfig;
use opdflow_training::ppo::{Ppo, PpoConfig, Reduction};
use opdflow_training::sft::{Sft, SftConfig};
use opdflow_training::task::{RewardValues, Sample, Task, TaskSettings, of_parts};
use opdflow_training::teacher::{Canvas, RolloutCollector, Sampling, per_sample};
use opdflow_training::train::LrSchedule;
use std::ops::Range;
use tch::{Device, Kind, Tensor, no_grad};

pub const CPU: Device = Device::Cpu;
/// At width 16 an adapter of this rank is computed beside its layer.
pub const BESIDE: i64 = 1;
/// And one of this rank is merged into it.
pub const MERGED: i64 = 4;

pub struct Rig {
    pub model: Sd3Network,
    /// The base's weights.
    #[allow(dead_code, reason = "one of the two test programs rounds them")]
    pub tensors: Vec<(String, Tensor)>,
    pub empty: Condition,
    pub canvas: Canvas,
}

impl Rig {
    pub fn new() -> Self {
        tch::set_num_threads(1);
        let config = MmditConfig {
            sample_size: 4,
            patch_size: 2,
            in_channels: 4,
            out_channels: Some(4),
            num_layers: 2,
            attention_head_dim: 8,
            num_attention_heads: 2,
            joint_attention_dim: 8,
            caption_projection_dim: 16,
            pooled_projection_dim: 6,
            pos_embed_max_size: Some(4),
            dual_attention_layers: vec![0],
            qk_norm: Some("rms_norm".into()),
        };
        let weights = Weights::new_dense(1, CPU);
        let transformer = Mmdit::new(&weights.root(), &config).unwrap();
        // Its latents have four channels, as those of an autoencoder's defaults.
        let model = Sd3::new(config, VaeConfig::default(), published_scheduler()).unwrap();
        let model = Sd3Network { model, transformer };
        weights.set_trainable(false, |_| true);
        // Gates and the last layer start small; a trained network's are not, and adapters work through them.
        for (name, t) in weights.tensors() {
            if name.contains("norm1") || name.contains("proj_out") {
                no_grad(|| drop(t.shallow_clone().g_mul_scalar_(8.0)));
            }
        }
        let canvas =
            Canvas { shape: [4, 4, 4], device: CPU, micro: 100, gradient_checkpointing: false, ranks: Ranks::alone() };
        Self { model, tensors: weights.tensors(), empty: embedded(1, 99), canvas }
    }

    pub fn prompts(&self, count: i64, seed: u64) -> Condition {
        embedded(count, seed)
    }

    /// A fresh adapter.
    pub fn lora(&self, rank: i64, seed: u64) -> Lora {
        let lora = Lora::init(
            &LoraConfig::joint_attention(rank, 2.0 * rank as f64),
            &self.model.transformer.linears(),
            seed,
            CPU,
        )
        .unwrap();
        assert_eq!(lora.named().len(), 2 * 15, "eight projections in the first block, seven in the last");
        lora
    }

    pub fn field<'a>(&'a self, lora: Option<&'a Lora>, guidance: f64) -> Field<'a> {
        Field { model: &self.model, lora, guidance: Guidance { scale: guidance, empty: &self.empty } }
    }

    pub fn toy(&self, name: &'static str, seed: u64) -> Toy {
        Toy {
            together: 1,
            name,
            prompts: embedded(6, derive(seed, "prompts", 0)),
            wish: normal(&[1, 4, 4, 4], derive(seed, "wish", 0), CPU),
            settings: TaskSettings::default(),
            flat: None,
        }
    }
}

fn embedded(count: i64, seed: u64) -> Condition {
    Condition::new([
        ("context", normal(&[count, 5, 8], seed, CPU)),
        ("pooled", normal(&[count, 6], derive(seed, "pooled", 0), CPU)),
    ])
    .unwrap()
}

/// Gives a fresh adapter some use: B as if trained.
pub fn wear(lora: Lora, std: f64, seed: u64) -> Lora {
    for (i, (name, t)) in lora.named().into_iter().enumerate() {
        if name.ends_with("lora_B.weight") {
            no_grad(|| t.shallow_clone().copy_(&(normal(&t.size(), derive(seed, "worn", i as u64), CPU) * std)));
        }
    }
    lora
}

/// A reward that grows along a direction of the latents.
pub struct Toy {
    name: &'static str,
    prompts: Condition,
    wish: Tensor,
    #[allow(dead_code, reason = "one of the programs that share this sets it")]
    pub settings: TaskSettings,
    /// A prompt whose images all earn the same.
    #[allow(dead_code, reason = "one of the programs that share this sets it")]
    pub flat: Option<usize>,
    /// Images that are judged together.
    #[allow(dead_code, reason = "one of the programs that share this sets it")]
    pub together: usize,
}

impl Task for Toy {
    fn name(&self) -> &str {
        self.name
    }
    fn settings(&self) -> TaskSettings {
        self.settings
    }
    fn prompts(&self) -> usize {
        self.prompts.len() as usize
    }
    fn condition(&self, prompts: &[usize]) -> Result<Condition> {
        Ok(self.prompts.rows(&prompts.iter().map(|&p| p as i64).collect::<Vec<_>>()))
    }
    fn judged_together(&self) -> usize {
        self.together
    }
    fn score(&mut self, prompts: &[usize], own: Range<usize>, sample: &mut Sample) -> Result<Vec<RewardValues>> {
        assert_eq!(own, 0..prompts.len(), "one process has all rows");
        let wish = &self.wish;
        let earn = |latents: &Tensor| Ok(Vec::try_from(per_sample(&(latents * wish)).to_kind(Kind::Double))?);
        let earned = of_parts(sample, earn)?;
        let one = |(value, prompt): (f64, &usize)| if self.flat == Some(*prompt) { 0.0 } else { value };
        let values = earned.into_iter().zip(prompts).map(one).collect();
        Ok(vec![RewardValues { name: "wish".into(), weight: 1.0, values }])
    }
}

pub fn collector<'a>(rig: &'a Rig, tasks: Vec<&'a mut Toy>, seed: u64) -> RolloutCollector<'a> {
    let sampling =
        Sampling { prompts: 4, group_size: 6, num_inference_steps: 4, guidance_scale: 1.0, ..Sampling::default() };
    let tasks = tasks.into_iter().map(|t| t as &mut dyn Task).collect();
    RolloutCollector { model: &rig.model, empty: &rig.empty, canvas: rig.canvas, sampling, tasks, seed }
}

pub fn nft<'a>(rig: &'a Rig, lora: &'a Lora, task: &'a mut Toy) -> Nft<'a> {
    // A policy that lags: its state must be kept.
    let config = NftConfig { decay: Decay::Linear { rate: 0.1, top: 0.5 }, ..NftConfig::default() };
    Nft { config, collector: collector(rig, vec![task], 11), old: lora.detached(), lora, seen: None }
}

pub fn grpo<'a>(ratio: Ratio, rig: &'a Rig, lora: &'a Lora, task: &'a mut Toy) -> Grpo<'a> {
    let clip = if ratio == Ratio::Guard { 1e-3 } else { 1e-2 };
    let config = GrpoConfig { clip_range: Some(clip), ..GrpoConfig::default() };
    Grpo { ratio, config, collector: collector(rig, vec![task], 12), lora, seen: None, clipped: Clipped::default() }
}

pub fn guard<'a>(rig: &'a Rig, lora: &'a Lora, task: &'a mut Toy) -> Grpo<'a> {
    grpo(Ratio::Guard, rig, lora, task)
}

pub fn distillation<'a>(rig: &'a Rig, lora: &'a Lora, teachers: Vec<TaskTeacher<'a>>) -> Distillation<'a> {
    let sampling =
        StudentSampling { solver: Solver::default(), num_inference_steps: 4, prompts: 5, guidance_scale: Some(1.0) };
    Distillation { sampling, canvas: rig.canvas, model: &rig.model, empty: &rig.empty, lora, teachers, seed: 13 }
}

pub fn opd<'a>(rig: &'a Rig, lora: &'a Lora, teachers: Vec<TaskTeacher<'a>>) -> Opd<'a> {
    Opd {
        config: OpdConfig::default(),
        distillation: distillation(rig, lora, teachers),
        remaining: Remaining::default(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    Nft,
    Guard,
    Flow,
    Opd,
    Ppo,
    /// With means over dimensions, as Flow-OPD's code.
    PpoOfMeans,
    OneState,
    Sft,
    Dmd(Along),
}

impl Method {
    pub const ALL: [Self; 9] = [
        Self::Nft,
        Self::Guard,
        Self::Flow,
        Self::Opd,
        Self::Ppo,
        Self::OneState,
        Self::Sft,
        Self::Dmd(Along::Images),
        Self::Dmd(Along::Path),
    ];

    /// Lends the method's objective, with everything that it needs, to `work`.
    pub fn with<R>(self, rig: &Rig, lora: &Lora, micro: i64, work: impl FnOnce(&mut dyn Objective) -> R) -> R {
        let (mut toy, other) = (rig.toy("a", 5), rig.toy("b", 6));
        match self {
            Self::Nft => {
                let mut objective = nft(rig, lora, &mut toy);
                objective.collector.canvas.micro = micro;
                return work(&mut objective);
            }
            Self::Guard | Self::Flow => {
                let ratio = if self == Self::Guard { Ratio::Guard } else { Ratio::Plain };
                let mut objective = grpo(ratio, rig, lora, &mut toy);
                objective.config.kl = Some(0.01);
                objective.collector.canvas.micro = micro;
                return work(&mut objective);
            }
            _ => {}
        }
        let teachers = [7, 9].map(|seed| wear(rig.lora(MERGED, seed), 0.3, seed + 1).detached());
        let fake = wear(rig.lora(BESIDE, 15), 0.1, 16);
        let teachers = vec![
            TaskTeacher { lora: &teachers[0], guidance: 1.0, task: &toy },
            TaskTeacher { lora: &teachers[1], guidance: 2.0, task: &other },
        ];
        let mut distillation = distillation(rig, lora, teachers);
        distillation.canvas.micro = micro;
        if matches!(self, Self::Opd | Self::Ppo | Self::PpoOfMeans) {
            distillation.sampling.solver = Solver::Flow { noise_level: 0.7 };
        }
        let mut objective: Box<dyn Objective> = match self {
            Self::Ppo | Self::PpoOfMeans => {
                let reduction = if self == Self::Ppo { Reduction::Sum } else { Reduction::Mean };
                let config = PpoConfig { reduction, ..PpoConfig::default() };
                Box::new(Ppo { config, distillation, seen: Vec::new() })
            }
            Self::OneState => Box::new(Dance { config: DanceConfig::default(), distillation }),
            Self::Sft => Box::new(Sft { config: SftConfig::default(), distillation }),
            Self::Dmd(along) => {
                let config = DmdConfig { along, ..DmdConfig::default() };
                let fake = Fake::new(&fake, &config, &AdamWConfig::default(), LrSchedule::default());
                Box::new(Dmd { config, distillation, fake })
            }
            _ => Box::new(Opd { config: OpdConfig::default(), distillation, remaining: Remaining::default() }),
        };
        work(&mut *objective)
    }
}

/// All gradients of the adapter as one vector.
pub fn grads(lora: &Lora) -> Tensor {
    let flat =
        |p: &Tensor| if p.grad().defined() { p.grad().copy().view([-1]) } else { p.detach().zeros_like().view([-1]) };
    Tensor::cat(&lora.parameters().iter().map(flat).collect::<Vec<_>>(), 0)
}

/// The gradient of the first update of `round`.
pub fn gradient(lora: &Lora, objective: &mut dyn Objective, round: u64) -> (Tensor, Report) {
    lora.parameters().iter_mut().for_each(Tensor::zero_grad);
    let report = objective.accumulate(round, 0).unwrap();
    (grads(lora), report)
}

#[track_caller]
pub fn of(report: &Report, name: &str) -> f64 {
    report.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no `{name}` in {report:?}")).1
}

pub fn largest(t: &Tensor) -> f64 {
    t.abs().max().double_value(&[])
}

pub fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    (&a * &b).sum(Kind::Double).double_value(&[]) / (a.norm().double_value(&[]) * b.norm().double_value(&[]))
}

/// Equal up to a share of the larger one, or both next to nothing.
#[track_caller]
pub fn close(what: &str, a: f64, b: f64, share: f64) {
    assert!((a - b).abs() <= share * a.abs().max(b.abs()) + 1e-6, "{what}: {a} {b}");
}
