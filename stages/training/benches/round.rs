//! Rounds of training as `recipes/multitask.yaml` has them, on a network of the miniature's size and one thread: what they
//! cost of the processor apart from text, images and rewards.
#![allow(missing_docs)]

mod miniature;

use criterion::{Criterion, criterion_group, criterion_main};
use miniature::{CANVAS, Prompts, adapter, busy, embedded, network};
use opdflow_models::Solver;
use opdflow_models::families::sd3::Sd3Network;
use opdflow_models::lora::Lora;
use opdflow_training::distillation::{Distillation, StudentSampling, TaskTeacher};
use opdflow_training::grpo::{Clipped, Grpo, GrpoConfig, Ratio};
use opdflow_training::nft::{Nft, NftConfig};
use opdflow_training::objective::Objective;
use opdflow_training::opd::{Opd, OpdConfig, Remaining};
use opdflow_training::optim::{AdamW, AdamWConfig, EmaConfig};
use opdflow_training::teacher::{RolloutCollector, Sampling};
use opdflow_training::train::{Learner, LrSchedule};
use std::hint::black_box;
use std::time::Duration;

/// Round after round of `objective`, which trains `lora`: gradients, optimizer and average.
fn measure(c: &mut Criterion, name: &str, lora: &Lora, objective: &mut dyn Objective) {
    let optimizer = AdamW::new(AdamWConfig { lr: 1e-4, ..Default::default() }, lora.parameters());
    let mut learner = Learner::new(lora.parameters(), optimizer, EmaConfig::default(), LrSchedule::default());
    let mut group = c.benchmark_group("round");
    group.sample_size(10).measurement_time(Duration::from_secs(20));
    group.bench_function(name, |b| {
        b.iter_custom(|n| busy(n, || drop(black_box(learner.round(objective).expect("a round that is finite")))));
    });
    group.finish();
}

/// Three teachers, 24 prompts each, seven trained steps.
fn distillation(c: &mut Criterion, model: &Sd3Network) {
    let (empty, task, student) = (embedded(1, 3), Prompts(embedded(64, 5)), adapter(model, 7));
    let teachers: Vec<Lora> = (8..11).map(|seed| adapter(model, seed).detached()).collect();
    let sampling = StudentSampling {
        solver: Solver::Flow { noise_level: 0.0 },
        num_inference_steps: 8,
        prompts: 24,
        guidance_scale: Some(1.0),
    };
    let teacher = |lora| TaskTeacher { lora, guidance: 1.0, task: &task };
    let distillation = Distillation {
        sampling,
        canvas: CANVAS,
        model,
        empty: &empty,
        lora: &student,
        teachers: teachers.iter().map(teacher).collect(),
        seed: 11,
    };
    let config = OpdConfig { normalize: true, ..OpdConfig::default() };
    let mut opd = Opd { config, distillation, remaining: Remaining::default() };
    measure(c, "distillation", &student, &mut opd);
}

/// Eight prompts, twelve images each: DiffusionNFT at four noise levels, then GRPO-Guard at seven steps.
fn teachers(c: &mut Criterion, model: &Sd3Network) {
    let empty = embedded(1, 3);
    let sampling = || Sampling { prompts: 8, group_size: 12, num_inference_steps: 8, ..Sampling::default() };
    {
        let (lora, mut task) = (adapter(model, 7), Prompts(embedded(64, 5)));
        let tasks = vec![&mut task as _];
        let collector =
            RolloutCollector { model, empty: &empty, canvas: CANVAS, sampling: sampling(), tasks, seed: 11 };
        let config = NftConfig { timesteps: Some(4), advantage_clip: 3.0, kl: 0.1, ..NftConfig::default() };
        let mut nft = Nft { config, collector, lora: &lora, old: lora.detached(), seen: None };
        measure(c, "nft", &lora, &mut nft);
    }
    let (lora, mut task) = (adapter(model, 7), Prompts(embedded(64, 5)));
    let tasks = vec![&mut task as _];
    let collector = RolloutCollector { model, empty: &empty, canvas: CANVAS, sampling: sampling(), tasks, seed: 11 };
    let config = GrpoConfig { clip_range: Some(1e-4), updates: 1, ..GrpoConfig::default() };
    let mut guard =
        Grpo { ratio: Ratio::Guard, config, collector, lora: &lora, seen: None, clipped: Clipped::default() };
    measure(c, "guard", &lora, &mut guard);
}

fn rounds(c: &mut Criterion) {
    tch::set_num_threads(1);
    let model = network();
    distillation(c, &model);
    teachers(c, &model);
}

criterion_group!(benches, rounds);
criterion_main!(benches);
