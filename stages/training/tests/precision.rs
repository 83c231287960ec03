//! A base of 16 bits under an adapter of 32: what it computes, and what is learnt on it, beside a base of 32.

#[path = "training/rig.rs"]
#[allow(dead_code)]
mod rig;

use opdflow_models::families::sd3::{Mmdit, Sd3Network};
use opdflow_models::network::Network as _;
use opdflow_models::weights::{Weights, save_tensors};
use opdflow_training::optim::{AdamW, AdamWConfig, EmaConfig};
use opdflow_training::train::{Learner, LrSchedule};
use rig::{BESIDE, CPU, MERGED, Method, Rig, cosine, gradient, wear};
use tch::{Kind, Tensor};

/// The rig with its base rounded to `kind`.
fn halved(kind: Kind) -> Rig {
    let full = Rig::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    save_tensors(&path, &full.tensors, Kind::Float).unwrap();
    let weights = Weights::load(&path, CPU, kind).unwrap();
    let transformer = Mmdit::new(&weights.root(), full.model.transformer.config()).unwrap();
    let model = Sd3Network { model: full.model.model.clone(), transformer };
    assert_eq!(model.kind(), kind);
    let empty = full.empty.to(CPU, kind);
    Rig { model, empty, ..full }
}

#[test]
fn gradients_of_the_adapter_are_f32_and_nearly_the_same() {
    let (full, half) = (Rig::new(), halved(Kind::BFloat16));
    for method in Method::ALL {
        for rank in [BESIDE, MERGED] {
            let lora = wear(full.lora(rank, 3), 0.2, 4);
            let (exact, _) = method.with(&full, &lora, 100, |objective| gradient(&lora, objective, 0));
            let (rough, _) = method.with(&half, &lora, 100, |objective| gradient(&lora, objective, 0));
            assert!(lora.parameters().iter().all(|p| p.kind() == Kind::Float && p.grad().kind() == Kind::Float));
            let alike = cosine(&exact, &rough);
            println!("{method:?} rank {rank}: cosine {alike:.5}");
            assert!(alike < 1.0, "{method:?}: the base was not rounded");
            // Clips act on ratios that 8 bits of mantissa cannot tell from one another.
            let least = if matches!(method, Method::Guard | Method::Flow | Method::Ppo) { 0.8 } else { 0.97 };
            assert!(alike > least, "{method:?} rank {rank}: cosine {alike}");
        }
    }
}

#[test]
fn small_steps_are_not_lost_in_the_rounding() {
    // Each step moves a weight by a thousandth of bf16's distance between neighbours; f32 weights add them up.
    let half = halved(Kind::BFloat16);
    let lora = wear(half.lora(BESIDE, 3), 0.2, 4);
    let before: Vec<Tensor> = lora.parameters().iter().map(|p| p.detach().copy()).collect();
    let config = AdamWConfig { lr: 1e-6, weight_decay: 0.0, ..AdamWConfig::default() };
    let optimizer = AdamW::new(config, lora.parameters());
    let mut learner = Learner::new(lora.parameters(), optimizer, EmaConfig::default(), LrSchedule::default());
    Method::Opd.with(&half, &lora, 100, |objective| {
        for _ in 0..3 {
            learner.round(objective).unwrap();
        }
    });
    let moved: Vec<f64> =
        lora.parameters().iter().zip(&before).map(|(now, then)| rig::largest(&(now.detach() - then))).collect();
    // The last block's text goes nowhere, so its query's pair alone learns nothing.
    assert_eq!(moved.iter().filter(|m| **m == 0.0).count(), 2, "{moved:?}");
    assert!(moved.iter().all(|m| *m == 0.0 || (1e-7..1e-5).contains(m)), "{moved:?}");
}

#[test]
fn velocities_and_latents_are_f32() {
    let half = halved(Kind::BFloat16);
    let x = half.canvas.noise(2, 1);
    let prompts = half.prompts(2, 2).to(CPU, Kind::BFloat16);
    let lora = wear(half.lora(BESIDE, 3), 0.2, 4);
    for guidance in [1.0, 3.0] {
        let v = half.field(Some(&lora), guidance).velocity_at(&x, 0.5, &prompts);
        assert_eq!((v.kind(), v.size()), (Kind::Float, x.size()));
    }
}
