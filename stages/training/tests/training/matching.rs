//! Distribution matching: the second network's own steps, and where the student is pushed.

use crate::rig::{MERGED, Rig, Toy, distillation, gradient, largest, of, wear};
use opdflow_models::lora::Lora;
use opdflow_training::distillation::TaskTeacher;
use opdflow_training::dmd::{Along, Dmd, DmdConfig, Fake};
use opdflow_training::objective::Objective as _;
use opdflow_training::optim::AdamWConfig;
use opdflow_training::train::LrSchedule;

/// A student and its teacher, with what both need.
struct Pair {
    rig: Rig,
    toy: Toy,
    student: Lora,
    teacher: Lora,
}

impl Pair {
    fn new() -> Self {
        let rig = Rig::new();
        let (toy, student) = (rig.toy("a", 5), rig.lora(MERGED, 3));
        let teacher = wear(rig.lora(MERGED, 7), 0.3, 8).detached();
        Self { rig, toy, student, teacher }
    }

    fn dmd<'a>(&'a self, config: DmdConfig, fake: &'a Lora, lr: f64) -> Dmd<'a> {
        let teachers = vec![TaskTeacher { lora: &self.teacher, guidance: 1.0, task: &self.toy }];
        let optimizer = AdamWConfig { lr, ..AdamWConfig::default() };
        let fake = Fake::new(fake, &config, &optimizer, LrSchedule::default());
        Dmd { config, distillation: distillation(&self.rig, &self.student, teachers), fake }
    }
}

#[test]
fn the_second_network_takes_its_own_steps() {
    let pair = Pair::new();
    for along in [Along::Images, Along::Path] {
        // What it misses on the images of the first round, which it sees last.
        let missed = |rounds: u64| {
            let config = DmdConfig { along, fake_updates: Some(3), fake_lr: Some(2.0) };
            let fake = pair.rig.lora(MERGED, 9);
            let mut dmd = pair.dmd(config, &fake, 0.001);
            assert_eq!((dmd.updates(0), dmd.gradients()), (1, 5), "an optimizer step of the student, five images");
            let last = (0..rounds).rev().map(|round| gradient(&pair.student, &mut dmd, round).1).last().unwrap();
            assert_eq!(dmd.fake.steps(), 3 * rounds);
            of(&last, "fake_loss")
        };
        let (before, after) = (missed(1), missed(60));
        assert!(after < 0.97 * before, "{along:?}: {before} {after}");
    }
}

/// The push is the difference of two networks: there is none where they are the same.
#[test]
fn a_student_like_its_teacher_is_not_pushed() {
    let pair = Pair::new();
    for along in [Along::Images, Along::Path] {
        let pushed = |fake_seed: u64| {
            let config = DmdConfig { along, fake_updates: Some(1), fake_lr: Some(1e-9) };
            let fake = wear(pair.rig.lora(MERGED, 7), 0.3, fake_seed);
            let mut dmd = pair.dmd(config, &fake, AdamWConfig::default().lr);
            largest(&gradient(&pair.student, &mut dmd, 0).0)
        };
        let (same, other) = (pushed(8), pushed(16));
        assert!(same < 1e-4 * other, "{along:?}: {same:e} {other:e}");
    }
}
