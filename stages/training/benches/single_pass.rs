//! A round of distillation in a single pass beside rollout-then-train, on a network of the miniature's size: the same loss
//! and the same gradient (`one_pass_is_rollout_then_train` in `tests/training.rs`), one student forward less at each state.
#![allow(missing_docs)]

#[path = "../tests/training/two_pass.rs"]
mod two_pass;

use anyhow::Result;
use criterion::{Criterion, criterion_group, criterion_main};
use opdflow_models::Solver;
use opdflow_models::condition::Condition;
use opdflow_models::families::sd3::{Mmdit, MmditConfig, SchedulerConfig, Sd3, Sd3Network};
use opdflow_models::lora::{Lora, LoraConfig};
use opdflow_models::rng::normal;
use opdflow_models::vae::VaeConfig;
use opdflow_models::weights::Weights;
use opdflow_training::distillation::{Distillation, StudentSampling, TaskTeacher};
use opdflow_training::objective::Objective;
use opdflow_training::opd::{Opd, OpdConfig, Remaining};
use opdflow_training::task::{RewardValues, Task};
use opdflow_training::teacher::Canvas;
use std::hint::black_box;
use std::time::Duration;
use tch::{Device, Tensor};

const CPU: Device = Device::Cpu;

/// The miniature's transformer with random weights: 16 tokens of an image, 19 of a prompt, width 96.
fn network() -> Sd3Network {
    let config = MmditConfig {
        sample_size: 8,
        patch_size: 2,
        in_channels: 16,
        out_channels: Some(16),
        num_layers: 4,
        attention_head_dim: 32,
        num_attention_heads: 3,
        joint_attention_dim: 96,
        caption_projection_dim: 96,
        pooled_projection_dim: 64,
        pos_embed_max_size: Some(8),
        dual_attention_layers: vec![0],
        qk_norm: Some("rms_norm".into()),
    };
    let weights = Weights::new_dense(1, CPU);
    let transformer = Mmdit::new(&weights.root(), &config).expect("a network of these sizes");
    weights.set_trainable(false, |_| true);
    let vae = VaeConfig { latent_channels: 16, ..VaeConfig::default() };
    let model = Sd3::new(config, vae, SchedulerConfig::published()).expect("parts that go together");
    Sd3Network { model, transformer }
}

fn embedded(count: i64, seed: u64) -> Condition {
    let (context, pooled) = (normal(&[count, 19, 96], seed, CPU), normal(&[count, 64], seed + 1, CPU));
    Condition::new([("context", context), ("pooled", pooled)]).expect("rows")
}

/// Prompts that nobody scores.
struct Prompts(Condition);

impl Task for Prompts {
    fn name(&self) -> &str {
        "prompts"
    }
    fn prompts(&self) -> usize {
        self.0.len() as usize
    }
    fn condition(&self, prompts: &[usize]) -> Result<Condition> {
        Ok(self.0.rows(&prompts.iter().map(|&p| p as i64).collect::<Vec<_>>()))
    }
    fn score(&mut self, _: &Tensor, _: &[usize]) -> Result<Vec<RewardValues>> {
        Ok(Vec::new())
    }
}

/// The processor time of `n` rounds: on a machine with other work the wall's says little.
fn busy(n: u64, mut round: impl FnMut()) -> Duration {
    let now = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: it writes to the one struct that it is given.
        let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
        assert_eq!(done, 0, "the process has a clock");
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = now();
    (0..n).for_each(|_| round());
    now() - start
}

fn single_pass(c: &mut Criterion) {
    tch::set_num_threads(1);
    let (model, empty, task) = (network(), embedded(1, 3), Prompts(embedded(64, 5)));
    let adapter = |seed| {
        Lora::init(&LoraConfig::joint_attention(16, 32.0), &model.transformer.linears(), seed, CPU)
            .expect("an adapter of the network")
    };
    let (student, teacher) = (adapter(7), adapter(8).detached());
    for (name, solver) in [("ode", Solver::default()), ("sde", Solver::Flow { noise_level: 0.7 })] {
        let mut opd = Opd {
            config: OpdConfig::default(),
            distillation: Distillation {
                sampling: StudentSampling { solver, num_inference_steps: 8, prompts: 24, guidance_scale: Some(1.0) },
                canvas: Canvas { shape: [16, 8, 8], device: CPU, micro: 128, gradient_checkpointing: false },
                model: &model,
                empty: &empty,
                lora: &student,
                teachers: vec![TaskTeacher { lora: &teacher, guidance: 1.0, task: &task }],
                seed: 11,
            },
            remaining: Remaining::default(),
        };
        let mut group = c.benchmark_group(format!("opd round, {name}"));
        group.sample_size(20).measurement_time(Duration::from_secs(20));
        group.bench_function("single pass", |b| {
            b.iter_custom(|n| busy(n, || drop(black_box(opd.accumulate(0, 0)))));
        });
        group.bench_function("rollout, then train", |b| {
            let mut round = || two_pass::rollout_then_train(&opd, 0, &|| (), &mut |share| share.backward());
            b.iter_custom(|n| busy(n, &mut round));
        });
        group.finish();
    }
}

criterion_group!(benches, single_pass);
criterion_main!(benches);
