//! A round that is sampled in parts has the bytes of one that is sampled at once, batch by batch.

use crate::rig::{self, BESIDE, CPU, Rig, gradient, wear};
use opdflow_models::rng;
use opdflow_models::rollout::{Keep, Rollout, RolloutOptions, rollout};
use opdflow_models::{Schedule, Solver};
use opdflow_ranks::Ranks;
use opdflow_training::grpo::Ratio;
use opdflow_training::parts::Parts;
use tch::Tensor;

fn equal(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.defined() == b.defined() && (!a.defined() || a == b))
}

#[test]
fn parts_have_the_bytes_of_the_whole() {
    let rig = Rig::new();
    let lora = wear(rig.lora(BESIDE, 3), 0.2, 4);
    let (schedule, start) = (Schedule::new(4, 3.0), rig.canvas.noise(13, 5));
    let condition = rig.empty.rows(&[0; 13]);
    let draw = |j: usize| rng::normal(&start.size(), rng::derive(6, "step", j as u64), CPU);
    for (solver, window) in [
        (Solver::Flow { noise_level: 0.7 }, None),
        (Solver::Flow { noise_level: 0.7 }, Some(1..2)),
        (Solver::Dpm { order: 2 }, None),
    ] {
        for keep in [Keep::All, Keep::Last] {
            let along = RolloutOptions {
                schedule: &schedule,
                solver: &solver,
                window: window.clone(),
                keep,
                micro: 3,
                ranks: Ranks::alone(),
            };
            let field = rig.field(Some(&lora), 2.0);
            let whole = rollout(&field, &condition, &start, &along, &mut |j| draw(j)).unwrap();
            // Parts of one batch, of two, and one that holds all.
            for unit in [3, 6, 15] {
                let mut parts = Parts::new(&start, unit, Ranks::alone());
                let mut seen: Vec<Tensor> = Vec::new();
                assert_eq!(parts.own(), 0..13);
                let mut keep_seen = |last: &Tensor| {
                    seen.push(last.copy());
                    Ok(())
                };
                parts.sample(&field, &condition, &along, &draw, &mut keep_seen).unwrap();
                assert_eq!(seen.len(), 13_usize.div_ceil(unit));
                let Rollout { states, means, noises } = parts.whole(&along, &draw).unwrap();
                assert_eq!(Tensor::cat(&seen, 0), *whole.last(), "{solver:?} {unit}");
                assert!(equal(&states, &whole.states), "{solver:?} {keep:?} {unit}");
                assert!(equal(&means, &whole.means) && equal(&noises, &whole.noises), "{solver:?} {keep:?} {unit}");
            }
        }
    }
}

#[test]
fn what_is_judged_together_changes_no_gradient() {
    let rig = Rig::new();
    let lora = wear(rig.lora(BESIDE, 3), 0.2, 4);
    let of = |together: usize| {
        let mut toy = rig.toy("a", 5);
        toy.together = together;
        let mut grpo = rig::grpo(Ratio::Plain, &rig, &lora, &mut toy);
        grpo.collector.canvas.micro = 4;
        gradient(&lora, &mut grpo, 0).0
    };
    // 24 images, 4 at a time: six parts, three, and one.
    assert!(of(1) == of(8) && of(1) == of(24));
}
