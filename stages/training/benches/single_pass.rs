//! A round of distillation in a single pass beside rollout-then-train, on a network of the miniature's size: the same loss
//! and the same gradient (`one_pass_is_rollout_then_train` in `tests/training.rs`), one student forward less at each state.
#![allow(missing_docs)]

mod miniature;
#[path = "../tests/training/two_pass.rs"]
mod two_pass;

use criterion::{Criterion, criterion_group, criterion_main};
use miniature::{CANVAS, Prompts, adapter, busy, embedded, network};
use opdflow_models::Solver;
use opdflow_training::distillation::{Distillation, StudentSampling, TaskTeacher};
use opdflow_training::objective::Objective;
use opdflow_training::opd::{Opd, OpdConfig, Remaining};
use std::hint::black_box;
use std::time::Duration;

fn single_pass(c: &mut Criterion) {
    tch::set_num_threads(1);
    let (model, empty, task) = (network(), embedded(1, 3), Prompts(embedded(64, 5)));
    let (student, teacher) = (adapter(&model, 7), adapter(&model, 8).detached());
    for (name, solver) in [("ode", Solver::default()), ("sde", Solver::Flow { noise_level: 0.7 })] {
        let mut opd = Opd {
            config: OpdConfig::default(),
            distillation: Distillation {
                sampling: StudentSampling { solver, num_inference_steps: 8, prompts: 24, guidance_scale: Some(1.0) },
                canvas: CANVAS,
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
