//! Continuing from a checkpoint: a run that was interrupted is the straight one to the bit, and what is of something else is refused.

use crate::learner;
use crate::rig::{BESIDE, MERGED, Method, Rig, of, opd, wear};
use opdflow_training::State;
use opdflow_training::distillation::TaskTeacher;
use opdflow_training::opd::Balance;
use tch::{Kind, Tensor};

#[test]
fn a_balance_survives_a_restart() {
    let rig = Rig::new();
    let (a, b) = (rig.toy("a", 5), rig.toy("b", 6));
    let (one, two) = (wear(rig.lora(MERGED, 7), 0.3, 8).detached(), wear(rig.lora(MERGED, 9), 0.1, 10).detached());
    let teachers = || {
        vec![TaskTeacher { lora: &one, guidance: 1.0, task: &a }, TaskTeacher { lora: &two, guidance: 1.0, task: &b }]
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let run = |rounds: u64, from: bool| {
        let student = rig.lora(MERGED, 3);
        let mut learner = learner(&student, 0.02);
        let mut opd = opd(&rig, &student, teachers());
        opd.config.balance = Balance::Remaining;
        if from {
            learner.restore(&State::read(&path).unwrap(), &mut opd).unwrap();
        }
        let mut report = Vec::new();
        while learner.rounds() < rounds {
            report = learner.round(&mut opd).unwrap();
        }
        State::write(&path, learner.state(&opd)).unwrap();
        (of(&report, "weight_a"), of(&report, "weight_b"))
    };
    let straight = run(12, false);
    run(5, false);
    assert_eq!(run(12, true), straight);
    assert!((straight.0 - straight.1).abs() > 1e-3, "{straight:?}: both lag alike, so that the test cannot tell");
}

#[test]
fn a_run_that_was_interrupted_is_the_straight_run() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    for method in Method::ALL {
        let path = folder.path().join(format!("{method:?}.safetensors"));
        // What is left of a run: its parameters, their averages, and all that a checkpoint would hold.
        let run = |rounds: u64, from: bool, save: bool| {
            let lora = rig.lora(MERGED, 3);
            let mut learner = learner(&lora, 0.01);
            method.with(&rig, &lora, 5, |objective| {
                if from {
                    learner.restore(&State::read(&path).unwrap(), objective).unwrap();
                }
                while learner.rounds() < rounds {
                    learner.round(objective).unwrap();
                }
                let state: Vec<(String, Tensor)> =
                    learner.state(objective).into_iter().map(|(n, t)| (n, t.detach().copy())).collect();
                if save {
                    State::write(&path, learner.state(objective)).unwrap();
                }
                state
            })
        };
        let straight = run(7, false, false);
        let first = run(3, false, true);
        let second = run(7, true, false);
        assert_eq!(straight.len(), second.len());
        for ((name, a), (other, b)) in straight.iter().zip(&second) {
            assert_eq!((name, bits(a)), (other, bits(b)), "{method:?}");
        }
        assert!(straight.iter().zip(&first).any(|((_, a), (_, b))| bits(a) != bits(b)), "{method:?}: nothing moved");
        let kinds = |prefix: &str| straight.iter().filter(|(n, _)| n.starts_with(prefix)).count();
        assert!(kinds("adamw.mean") > 0 && kinds("adamw.square") > 0 && kinds("ema") > 0 && kinds("param") > 0);
        assert_eq!(kinds("old") > 0, matches!(method, Method::Nft), "{method:?}: the old policy");
        assert_eq!(kinds("fake.adamw") > 0, matches!(method, Method::Dmd(_)), "{method:?}: the second network");
    }
}

fn bits(t: &Tensor) -> Vec<u64> {
    let flat = t.detach().view([-1]).to_kind(Kind::Double);
    Vec::<f64>::try_from(flat).unwrap().into_iter().map(f64::to_bits).collect()
}

#[test]
fn a_checkpoint_of_something_else_is_refused() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let save = |rank: i64, method: Method| {
        let lora = rig.lora(rank, 3);
        method.with(&rig, &lora, 5, |objective| State::write(&path, learner(&lora, 0.01).state(objective)).unwrap());
    };
    let load = |rank: i64, method: Method| {
        let lora = rig.lora(rank, 3);
        let restored = method
            .with(&rig, &lora, 5, |objective| learner(&lora, 0.01).restore(&State::read(&path).unwrap(), objective));
        format!("{:#}", restored.unwrap_err())
    };
    save(MERGED, Method::Nft);
    let error = load(BESIDE, Method::Nft);
    assert!(error.contains("param.0000") && error.contains("expected [1, 16]"), "{error}");
    save(MERGED, Method::Guard);
    assert!(load(MERGED, Method::Nft).contains("no tensor `old.0000`"));
}
