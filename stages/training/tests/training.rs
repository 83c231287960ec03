//! The objectives on a small random network: gradients, identities, learning.
//! Equations by hand are tested beside their code; here everything goes through the network.

#[path = "training/continuing.rs"]
mod continuing;
#[path = "training/matching.rs"]
mod matching;
#[path = "training/parts.rs"]
mod parts;
#[path = "training/reads.rs"]
mod reads;
#[path = "training/rig.rs"]
mod rig;
#[path = "training/two_pass.rs"]
mod two_pass;

use opdflow_models::lora::{Lora, LoraConfig};
use opdflow_models::rng::derive;
use opdflow_models::solver::TakeStep as _;
use opdflow_models::{Schedule, Solver};
use opdflow_training::advantage::Blend;
use opdflow_training::distillation::TaskTeacher;
use opdflow_training::grpo::{KlForm, Ratio, Split, ZeroAdvantage};
use opdflow_training::objective::Objective as _;
use opdflow_training::opd::{Match, Opd, divergence};
use opdflow_training::optim::{AdamW, AdamWConfig, EmaConfig};
use opdflow_training::task::{Task, TaskSettings, prompts_of_round};
use opdflow_training::train::{Learner, LrSchedule};
use opdflow_training::window::Window;
use rig::{BESIDE, CPU, MERGED, Method, Rig, close, cosine, gradient, largest, of, opd, wear};
use tch::{Kind, Tensor, no_grad};
use two_pass::rollout_then_train;

const SDE: Solver = Solver::Flow { noise_level: 0.7 };
/// What a batch of another size may do to a log-ratio: less than half of the smallest clip in use, 2e-6.
const ROUNDING: f64 = 1e-6;
const ODE: Solver = Solver::Flow { noise_level: 0.0 };

#[test]
fn a_fresh_adapter_changes_nothing() {
    let rig = Rig::new();
    let (x, condition) = (rig.canvas.noise(5, 1), rig.prompts(5, 2));
    for rank in [BESIDE, MERGED] {
        let lora = rig.lora(rank, 3);
        for guidance in [1.0, 3.0] {
            let at = |lora| rig.field(lora, guidance).velocity_at(&x, 0.7, &condition);
            let (base, own) = (at(None), at(Some(&lora)));
            assert_eq!(base, own, "rank {rank}, guidance {guidance}");
            let step = SDE.step(&Schedule::new(4, 3.0), 1);
            let kl = divergence(&step.mean(&x, &own, None), &step.mean(&x, &base, None), step.std);
            assert_eq!(largest(&kl), 0.0);
        }
        // And so its pull back to the base, however heavy, is nothing.
        let mut toy = rig.toy("a", 4);
        let mut nft = rig::nft(&rig, &lora, &mut toy);
        nft.config.kl = 1e6;
        let (heavy, report) = gradient(&lora, &mut nft, 0);
        assert_eq!(of(&report, "distance_to_base"), 0.0);
        nft.config.kl = 0.0;
        assert_eq!(heavy, gradient(&lora, &mut nft, 0).0);
        let mut guard = rig::guard(&rig, &lora, &mut toy);
        guard.config.kl = Some(1e6);
        let (heavy, _) = gradient(&lora, &mut guard, 0);
        guard.config.kl = Some(0.0);
        assert_eq!(heavy, gradient(&lora, &mut guard, 0).0);
    }
}

#[test]
fn the_ratio_of_a_first_update_is_one() {
    let rig = Rig::new();
    for rank in [BESIDE, MERGED] {
        for guidance in [1.0, 2.5] {
            let lora = wear(rig.lora(rank, 3), 0.2, 4);
            let mut toy = rig.toy("a", 5);
            let mut guard = rig::guard(&rig, &lora, &mut toy);
            guard.collector.sampling.guidance_scale = guidance;
            // The same batch as the rollout's: the same kernels, the same bits.
            guard.config.updates = 1;
            let (_, report) = gradient(&lora, &mut guard, 0);
            assert_eq!(of(&report, "log_ratio_first"), 0.0, "rank {rank}, guidance {guidance}");
            // Other batches may round otherwise.
            for micro in [3, 100] {
                guard.config.updates = 2;
                guard.collector.canvas.micro = micro;
                let (_, report) = gradient(&lora, &mut guard, 0);
                assert!(
                    of(&report, "log_ratio_first") <= ROUNDING,
                    "rank {rank}, guidance {guidance}, micro {micro}: {report:?}"
                );
            }
        }
    }
}

#[test]
fn the_second_update_of_a_round_is_off_policy() {
    let rig = Rig::new();
    for rank in [BESIDE, MERGED] {
        let lora = wear(rig.lora(rank, 3), 0.2, 4);
        let mut toy = rig.toy("a", 5);
        let mut guard = rig::guard(&rig, &lora, &mut toy);
        guard.config.clip_range = Some(1e-5);
        let mut learner = learner(&lora, 0.01);
        for round in 0..2 {
            let report = learner.round(&mut guard).unwrap();
            assert!(of(&report, "log_ratio_first") <= ROUNDING, "round {round}: {report:?}");
            assert!(of(&report, "log_ratio_later") > 1e-4, "round {round}: {report:?}");
        }
    }
}

/// Of a range that every moved ratio leaves, all later ones are clipped, and none of the first update's; of the widest range none.
#[test]
fn what_is_clipped_is_a_share_of_the_updates_that_can_differ() {
    let rig = Rig::new();
    for (updates, clip, share) in [(3, 1e-12, 1.0), (2, 1e-12, 1.0), (1, 1e-12, 0.0), (3, 1.0, 0.0)] {
        let lora = wear(rig.lora(MERGED, 3), 0.2, 4);
        let mut toy = rig.toy("a", 5);
        let mut guard = rig::guard(&rig, &lora, &mut toy);
        (guard.config.updates, guard.config.clip_range) = (updates, Some(clip));
        let mut learner = learner(&lora, 0.01);
        for round in 0..2 {
            let report = learner.round(&mut guard).unwrap();
            let clipped: Vec<f64> = report.iter().filter(|(name, _)| name == "clipped").map(|(_, v)| *v).collect();
            assert_eq!(clipped, [share], "{updates} updates, clip {clip}, round {round}");
        }
    }
}

#[test]
fn micro_batches_change_nothing() {
    let rig = Rig::new();
    for method in Method::ALL {
        let lora = wear(rig.lora(MERGED, 3), 0.2, 4);
        let at = |micro| method.with(&rig, &lora, micro, |objective| gradient(&lora, objective, 1));
        let ((small, a), (large, b)) = (at(3), at(100));
        assert!(cosine(&small, &large) > 0.99999, "{method:?}: {}", cosine(&small, &large));
        let diff = largest(&(&small - &large));
        assert!(diff <= 1e-5 * largest(&large), "{method:?}: {diff:e} of {:e}", largest(&large));
        for ((name, x), (_, y)) in a.iter().zip(&b).filter(|((n, _), _)| !n.starts_with("log_ratio") && n != "clipped")
        {
            close(&format!("{method:?} {name}"), *x, *y, 1e-5);
        }
    }
}

#[test]
fn computing_again_gives_the_same_gradient() {
    let (mut rig, embedders) = (Rig::new(), ["time_text_embed.text_embedder.linear_1", "context_embedder", "proj_out"]);
    for method in Method::ALL {
        for rank in [BESIDE, MERGED] {
            // One adapter in the blocks alone, as all of ours, and one that reaches what is before and behind them.
            let config = LoraConfig::joint_attention(rank, 2.0);
            let wide = config.target_modules.iter().cloned().chain(embedders.map(String::from)).collect();
            for (config, exact) in [(config.clone(), true), (LoraConfig { target_modules: wide, ..config }, false)] {
                let lora = wear(Lora::init(&config, &rig.model.transformer.linears(), 3, CPU).unwrap(), 0.2, 4);
                let mut at = |gradient_checkpointing| {
                    rig.canvas.gradient_checkpointing = gradient_checkpointing;
                    method.with(&rig, &lora, 100, |objective| gradient(&lora, objective, 1))
                };
                let ((kept, a), (again, b)) = (at(false), at(true));
                assert!(largest(&kept) > 0.0);
                assert_eq!(a, b, "{method:?} rank {rank}");
                if exact {
                    assert_eq!(kept, again, "{method:?} rank {rank}");
                } else {
                    // Gradients of the conditioning are added up in another order.
                    let diff = largest(&(&kept - &again));
                    assert!(diff <= 1e-5 * largest(&kept), "{method:?} rank {rank}: {diff:e}");
                }
            }
        }
    }
}

#[test]
fn a_student_that_is_its_teacher_has_nothing_to_learn() {
    let rig = Rig::new();
    let toy = rig.toy("a", 5);
    for rank in [BESIDE, MERGED] {
        let student = wear(rig.lora(rank, 3), 0.2, 4);
        let teacher = student.detached();
        for solver in [ODE, SDE] {
            for matching in [Match::Mean, Match::Velocity, Match::Clean] {
                let mut opd = opd(&rig, &student, vec![TaskTeacher { lora: &teacher, guidance: 2.5, task: &toy }]);
                (opd.distillation.sampling.solver, opd.config.matching, opd.distillation.sampling.guidance_scale) =
                    (solver, matching, Some(2.5));
                let (g, report) = gradient(&student, &mut opd, 0);
                assert_eq!((of(&report, "loss"), largest(&g)), (0.0, 0.0), "{solver:?} {matching:?} rank {rank}");
            }
        }
    }
}

#[test]
fn a_teacher_s_guidance_is_its_own() {
    let rig = Rig::new();
    let toy = rig.toy("a", 5);
    let student = wear(rig.lora(MERGED, 3), 0.2, 4);
    let teacher = student.detached();
    let mut opd = opd(&rig, &student, vec![TaskTeacher { lora: &teacher, guidance: 3.0, task: &toy }]);
    (opd.distillation.sampling.guidance_scale, opd.distillation.sampling.num_inference_steps) = (Some(1.5), 1);
    let (_, report) = gradient(&student, &mut opd, 2);
    // One Euler step of length 1: half the squared distance of two velocities at the starting noise.
    let stream = derive(opd.distillation.seed, "lesson", 0);
    let chosen = prompts_of_round(toy.prompts(), opd.distillation.sampling.prompts, stream, 2);
    let condition = toy.condition(&chosen).unwrap();
    let x = rig.canvas.noise(chosen.len(), derive(stream, "start", 2));
    let at = |guidance| rig.field(Some(&student), guidance).velocity_at(&x, 1.0, &condition);
    let by_hand = (at(1.5) - at(3.0)).square().mean(Kind::Float).double_value(&[]) / 2.0;
    assert!(by_hand > 1e-4);
    close("loss", of(&report, "loss"), by_hand, 1e-5);
}

/// The mean loss of a round on states sampled at the present parameters, at those that `change` leaves.
fn in_two_passes(opd: &Opd, round: u64, change: &dyn Fn()) -> Tensor {
    let mut sum = Tensor::zeros([], (Kind::Float, CPU));
    rollout_then_train(opd, round, change, &mut |share| sum += share);
    sum
}

#[test]
fn one_pass_is_rollout_then_train() {
    let rig = Rig::new();
    let (a, b) = (rig.toy("a", 5), rig.toy("b", 6));
    let student = wear(rig.lora(MERGED, 3), 0.2, 4);
    let (one, two) = (wear(rig.lora(MERGED, 7), 0.3, 8).detached(), wear(rig.lora(BESIDE, 9), 0.3, 10).detached());
    for solver in [ODE, SDE] {
        for guidance in [1.0, 2.0] {
            let teachers = vec![
                TaskTeacher { lora: &one, guidance: 1.0, task: &a },
                TaskTeacher { lora: &two, guidance: 3.0, task: &b },
            ];
            let mut opd = opd(&rig, &student, teachers);
            (
                opd.distillation.sampling.solver,
                opd.distillation.sampling.guidance_scale,
                opd.distillation.canvas.micro,
            ) = (solver, Some(guidance), 4);
            let (ours, report) = gradient(&student, &mut opd, 3);
            student.parameters().iter_mut().for_each(Tensor::zero_grad);
            let loss = in_two_passes(&opd, 3, &|| ());
            loss.backward();
            let theirs = rig::grads(&student);
            assert!(cosine(&ours, &theirs) > 0.9999, "{solver:?} {guidance}: {}", cosine(&ours, &theirs));
            close("norm", ours.norm().double_value(&[]), theirs.norm().double_value(&[]), 1e-4);
            close("loss", of(&report, "loss"), loss.double_value(&[]), 1e-5);
        }
    }
}

#[test]
fn only_the_student_s_mean_carries_a_gradient() {
    let rig = Rig::new();
    let toy = rig.toy("a", 5);
    let student = wear(rig.lora(MERGED, 3), 0.2, 4);
    let teacher = wear(rig.lora(MERGED, 7), 0.3, 8).detached();
    for solver in [ODE, SDE] {
        let mut opd = opd(&rig, &student, vec![TaskTeacher { lora: &teacher, guidance: 1.0, task: &toy }]);
        opd.distillation.sampling.solver = solver;
        let (g, _) = gradient(&student, &mut opd, 0);
        // The parameter that matters most, moved a little either way, with states and teacher where they were.
        let at = g.abs().argmax(None, false).int64_value(&[]);
        let nudge = |by: f64| {
            let mut left = at;
            for p in student.parameters() {
                if left < p.numel() as i64 {
                    return no_grad(|| drop(p.view([-1]).narrow(0, left, 1).g_add_scalar_(by)));
                }
                left -= p.numel() as i64;
            }
        };
        let loss = |by: f64, held: bool| {
            if !held {
                nudge(by);
            }
            let loss = no_grad(|| {
                in_two_passes(&opd, 0, &|| {
                    if held {
                        nudge(by)
                    }
                })
            })
            .double_value(&[]);
            nudge(-by);
            loss
        };
        let slope = |held: bool| (loss(0.01, held) - loss(-0.01, held)) / 0.02;
        let (ours, held, free) = (g.double_value(&[at]), slope(true), slope(false));
        close(&format!("{solver:?}"), ours, held, 0.01);
        // Had a gradient flowed through the states too, it would be this one.
        assert!((free - held).abs() > 0.02 * held.abs(), "{solver:?}: {free} {held}: the test cannot tell them apart");
    }
}

fn learner(lora: &opdflow_models::lora::Lora, lr: f64) -> Learner {
    let optimizer = AdamW::new(AdamWConfig { lr, ..Default::default() }, lora.parameters());
    Learner::new(
        lora.parameters(),
        optimizer,
        EmaConfig { decay: 0.8, ..EmaConfig::default() },
        LrSchedule { warmup: 2, ..Default::default() },
    )
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn teachers_raise_their_reward() {
    let rig = Rig::new();
    for method in [Method::Nft, Method::Guard, Method::Flow] {
        let lora = rig.lora(MERGED, 3);
        let mut learner = learner(&lora, 0.03);
        let rewards: Vec<f64> = method.with(&rig, &lora, 100, |objective| {
            (0..40).map(|_| of(&learner.round(objective).unwrap(), "reward")).collect()
        });
        let (before, after) = (mean(&rewards[..5]), mean(&rewards[35..]));
        println!("{method:?}: reward {before:.3} to {after:.3}");
        assert!(after > before + 0.12, "{method:?}: {rewards:?}");
    }
}

#[test]
fn a_student_comes_near_all_its_teachers() {
    let rig = Rig::new();
    let (a, b) = (rig.toy("a", 5), rig.toy("b", 6));
    let (one, two) = (wear(rig.lora(MERGED, 7), 0.3, 8).detached(), wear(rig.lora(MERGED, 9), 0.3, 10).detached());
    for solver in [ODE, SDE] {
        let student = rig.lora(MERGED * 2, 3);
        let teachers = vec![
            TaskTeacher { lora: &one, guidance: 1.0, task: &a },
            TaskTeacher { lora: &two, guidance: 1.0, task: &b },
        ];
        let mut opd = opd(&rig, &student, teachers);
        (opd.distillation.sampling.solver, opd.distillation.sampling.prompts) = (solver, 8);
        // Distance to each teacher along the student's own trajectories, on rounds that it was not trained on.
        let apart = |opd: &mut Opd| {
            let report = gradient(&student, opd, 1000).1;
            [of(&report, "loss_a"), of(&report, "loss_b")]
        };
        let before = apart(&mut opd);
        let mut learner = learner(&student, 0.02);
        (0..40).for_each(|_| drop(learner.round(&mut opd).unwrap()));
        let after = apart(&mut opd);
        println!("{solver:?}: {before:?} to {after:?}");
        for (b, a) in before.iter().zip(after) {
            assert!(a < 0.35 * b, "{solver:?}: {before:?} {after:?}");
        }
    }
}

#[test]
fn every_objective_brings_the_student_nearer() {
    let rig = Rig::new();
    // With sums over dimensions the PPO-style gradient is noise for so few images.
    for method in [Method::Opd, Method::PpoOfMeans, Method::OneState, Method::Sft] {
        let student = rig.lora(MERGED * 2, 3);
        let mut learner = learner(&student, 0.02);
        // The yardstick is always the same: the closed form, on rounds that nothing was trained on.
        let apart = || Method::Opd.with(&rig, &student, 100, |o| of(&gradient(&student, o, 1000).1, "loss"));
        let before = apart();
        method.with(&rig, &student, 100, |objective| (0..60).for_each(|_| drop(learner.round(objective).unwrap())));
        let after = apart();
        println!("{method:?}: {before:.4} to {after:.4}");
        assert!(after < 0.6 * before, "{method:?}: {before} {after}");
    }
}

#[test]
fn a_detached_advantage_has_no_pathwise_term() {
    // On-policy and detached, the loss is KL r: its gradient is the score times the KL, whose mean is zero. Not detached,
    // the gradient of the KL itself comes on top: that is the closed form's.
    let rig = Rig::new();
    let (toy, student) = (rig.toy("a", 5), wear(rig.lora(MERGED, 3), 0.2, 4));
    let teacher = wear(rig.lora(MERGED, 7), 0.3, 8).detached();
    let teachers = || vec![TaskTeacher { lora: &teacher, guidance: 1.0, task: &toy }];
    let ppo = |detach: bool| {
        let mut distillation = rig::distillation(&rig, &student, teachers());
        distillation.sampling.solver = SDE;
        let config = opdflow_training::ppo::PpoConfig { detach, ..Default::default() };
        gradient(&student, &mut opdflow_training::ppo::Ppo { config, distillation, seen: Vec::new() }, 0).0
    };
    let mut closed = opd(&rig, &student, teachers());
    closed.distillation.sampling.solver = SDE;
    let closed = gradient(&student, &mut closed, 0).0;
    let apart = ppo(false) - ppo(true);
    assert!(cosine(&apart, &closed) > 0.9999, "{}", cosine(&apart, &closed));
    close("norm", apart.norm().double_value(&[]), closed.norm().double_value(&[]), 1e-3);
}

#[test]
fn a_window_trains_its_steps_alone() {
    let rig = Rig::new();
    let lora = wear(rig.lora(MERGED, 3), 0.2, 4);
    let mut toy = rig.toy("a", 5);
    let mut grpo = rig::grpo(Ratio::Plain, &rig, &lora, &mut toy);
    grpo.config.sde_window = Some(Window { width: 1, from: 1, until: Some(2), slide: None });
    let (narrow, _) = gradient(&lora, &mut grpo, 0);
    let seen = grpo.seen.take().unwrap();
    let noisy: Vec<usize> = (0..4).filter(|&j| seen.rollout.noises[j].defined()).collect();
    assert_eq!(noisy, [1]);
    // A window over all trained steps is no window, but for the last step, which stays Euler's.
    grpo.config.sde_window = Some(Window { width: 3, from: 0, until: None, slide: None });
    let (wide, _) = gradient(&lora, &mut grpo, 0);
    assert!(cosine(&narrow, &wide) < 0.99);
}

#[test]
fn images_of_a_prompt_may_begin_from_the_same_noise() {
    let rig = Rig::new();
    let lora = rig.lora(MERGED, 3);
    let mut toy = rig.toy("a", 5);
    let mut grpo = rig::grpo(Ratio::Plain, &rig, &lora, &mut toy);
    let starts = |grpo: &mut opdflow_training::grpo::Grpo| {
        let _ = gradient(&lora, grpo, 0);
        let rollout = grpo.seen.take().unwrap().rollout;
        // Of each image the number of the first one that is equal to it, before the first step and after the last.
        [&rollout.states[0], rollout.last()].map(|x| {
            let equal = |i: i64| (0..i).find(|j| x.get(*j) == x.get(i)).unwrap_or(i);
            (0..x.size()[0]).map(equal).collect::<Vec<_>>()
        })
    };
    let each: Vec<i64> = (0..24).collect();
    assert_eq!(starts(&mut grpo), [each.clone(), each.clone()]);
    grpo.collector.sampling.same_noise = true;
    let by_prompt: Vec<i64> = (0..24).map(|i| i / 6 * 6).collect();
    assert_eq!(starts(&mut grpo), [by_prompt, each]);
}

#[test]
fn the_code_s_kl_lacks_the_length_of_the_step() {
    let rig = Rig::new();
    let lora = wear(rig.lora(MERGED, 3), 0.2, 4);
    let mut toy = rig.toy("a", 5);
    let mut grpo = rig::guard(&rig, &lora, &mut toy);
    // One step alone, so that the ratio of the two forms is one number.
    grpo.config.sde_window = Some(Window { width: 1, from: 1, until: Some(2), slide: None });
    let mut at = |kl: f64, form: KlForm| {
        (grpo.config.kl, grpo.config.kl_form) = (Some(kl), form);
        gradient(&lora, &mut grpo, 0).0
    };
    let none = at(0.0, KlForm::Paper);
    let (paper, code) = (at(1.0, KlForm::Paper) - &none, at(1.0, KlForm::Code) - &none);
    let length = SDE.step(&Schedule::new(4, 3.0), 1).length();
    close("length", code.norm().double_value(&[]), length * paper.norm().double_value(&[]), 1e-4);
}

#[test]
fn tasks_take_turns() {
    let rig = Rig::new();
    let lora = rig.lora(MERGED, 3);
    let (mut a, mut b) = (rig.toy("a", 5), rig.toy("b", 6));
    let collector = rig::collector(&rig, vec![&mut a, &mut b], 11);
    let mut nft = opdflow_training::nft::Nft {
        config: Default::default(),
        collector,
        old: lora.detached(),
        lora: &lora,
        seen: None,
    };
    for (round, name) in [(0, "reward_a"), (1, "reward_b"), (2, "reward_a")] {
        let (_, report) = gradient(&lora, &mut nft, round);
        assert!(report.iter().any(|(n, _)| n == name), "{round}: {report:?}");
    }
    // One reward blends alike either way.
    let at = |nft: &mut opdflow_training::nft::Nft, blend| {
        nft.collector.sampling.blend = blend;
        gradient(&lora, nft, 1).0
    };
    assert_eq!(at(&mut nft, Blend::Rewards), at(&mut nft, Blend::Advantages));
}

#[test]
fn a_task_has_settings_of_its_own() {
    let rig = Rig::new();
    let lora = rig.lora(MERGED, 3);
    let (mut a, mut b) = (rig.toy("a", 5), rig.toy("b", 6));
    a.settings = TaskSettings { rate: 1.0, updates: Some(3) };
    b.settings = TaskSettings { rate: 0.0, updates: None };
    let mut guard = rig::guard(&rig, &lora, &mut a);
    guard.collector.tasks.push(&mut b);
    guard.config.updates = 2;
    let mut learner = learner(&lora, 0.01);
    for (round, updates) in [(0, 3), (1, 2), (2, 3), (3, 2)] {
        let before = flat(&lora);
        let report = learner.round(&mut guard).unwrap();
        assert_eq!(report.iter().filter(|(name, _)| name == "grad_norm").count(), updates, "round {round}");
        let moved = largest(&(flat(&lora) - before));
        assert_eq!(moved > 0.0, round % 2 == 0, "round {round}: {moved}");
    }
    // A rate of its own is that learning rate: with one task of half the rate, what half the rate for all would do.
    let sampling = |lr: f64, rate: f64| {
        let lora = rig.lora(MERGED, 3);
        let mut toy = rig.toy("a", 5);
        toy.settings.rate = rate;
        let mut guard = rig::guard(&rig, &lora, &mut toy);
        let mut learner = self::learner(&lora, lr);
        (0..3).for_each(|_| drop(learner.round(&mut guard).unwrap()));
        flat(&lora)
    };
    assert!(largest(&(sampling(0.02, 0.5) - sampling(0.01, 1.0))) < 1e-9);
    assert!(largest(&(sampling(0.02, 1.0) - sampling(0.01, 1.0))) > 1e-4);
}

fn flat(lora: &Lora) -> Tensor {
    Tensor::cat(&lora.parameters().iter().map(|p| p.detach().copy().view([-1])).collect::<Vec<_>>(), 0)
}

/// Flow-GRPO trains on the images whose advantage is not 0 alone, and its loss is their mean: the gradient of before times
/// all images over those that are left.
#[test]
fn images_without_an_advantage_are_left_out_of_the_mean() {
    let rig = Rig::new();
    let lora = wear(rig.lora(MERGED, 3), 0.2, 4);
    let mut toy = rig.toy("a", 5);
    toy.flat = Some(prompts_of_round(6, 4, 12, 0)[1]);
    let mut guard = rig::guard(&rig, &lora, &mut toy);
    guard.config.updates = 1;
    let dropped = gradient(&lora, &mut guard, 0).0;
    guard.config.zero_advantage = ZeroAdvantage::Keep;
    let kept = gradient(&lora, &mut guard, 0).0;
    // One of four groups is flat.
    assert!(largest(&(&dropped * 0.75 - &kept)) <= 1e-5 * largest(&dropped), "{dropped} {kept}");
}

/// All updates of a round see each of its images once, however it is shared out, and the shares are not those of before.
#[test]
fn updates_share_a_round_by_images_or_by_prompts() {
    let rig = Rig::new();
    // No step is taken between them, so that their gradients add up to that of one update over all.
    let lora = wear(rig.lora(MERGED, 3), 0.2, 4);
    let mut toy = rig.toy("a", 5);
    let mut guard = rig::guard(&rig, &lora, &mut toy);
    guard.config.updates = 1;
    let whole = gradient(&lora, &mut guard, 0).0;
    let mut firsts = Vec::new();
    for split in [Split::Images, Split::Prompts] {
        (guard.config.updates, guard.config.split) = (2, split);
        let first = gradient(&lora, &mut guard, 0).0;
        lora.parameters().iter_mut().for_each(Tensor::zero_grad);
        guard.accumulate(0, 1).unwrap();
        let mean = (&first + rig::grads(&lora)) * 0.5;
        assert!(largest(&(&mean - &whole)) <= 1e-4 * largest(&whole), "{split:?}");
        firsts.push(first);
    }
    assert!(cosine(&firsts[0], &firsts[1]) < 0.999, "other images");
    let mut toy = rig.toy("a", 5);
    let mut nft = rig::nft(&rig, &lora, &mut toy);
    nft.config.updates = 1;
    let whole = gradient(&lora, &mut nft, 0).0;
    nft.config.updates = 3;
    let first = gradient(&lora, &mut nft, 0).0;
    lora.parameters().iter_mut().for_each(Tensor::zero_grad);
    (1..3).for_each(|update| drop(nft.accumulate(0, update).unwrap()));
    let mean = (&first + rig::grads(&lora)) / 3.0;
    assert!(largest(&(&mean - &whole)) <= 1e-4 * largest(&whole));
}

/// DanceGRPO: each image has steps of its own. With as many as there are, nothing is drawn.
#[test]
fn steps_are_drawn_for_each_image() {
    let rig = Rig::new();
    let lora = wear(rig.lora(MERGED, 3), 0.2, 4);
    let mut toy = rig.toy("a", 5);
    let mut guard = rig::guard(&rig, &lora, &mut toy);
    let all = gradient(&lora, &mut guard, 0).0;
    guard.config.timesteps = Some(3);
    assert_eq!(all, gradient(&lora, &mut guard, 0).0, "four steps, of which three are trained");
    guard.config.timesteps = Some(1);
    assert_eq!(guard.gradients(), 24);
    let one = gradient(&lora, &mut guard, 0).0;
    assert!(cosine(&all, &one) < 0.99 && one.isfinite().all().int64_value(&[]) == 1);
    assert!((gradient(&lora, &mut guard, 0).0 - &one).abs().max().double_value(&[]) == 0.0, "drawn by the seed alone");
}

/// DiffusionNFT's levels are all of the schedule's, and `d` follows the optimizer steps that are taken:
/// `return_decay(global_step, 1)` is 0.001 after the first, and twice that with two steps a round.
#[test]
fn nft_trains_all_levels_and_its_old_policy_counts_steps() {
    let rig = Rig::new();
    for (updates, share) in [(1, 0.1), (2, 0.2)] {
        let lora = wear(rig.lora(MERGED, 3), 0.2, 4);
        let mut toy = rig.toy("a", 5);
        let mut nft = rig::nft(&rig, &lora, &mut toy);
        nft.config.updates = updates;
        assert_eq!(nft.gradients(), 24 * 3, "int(4 * 0.99) of four levels");
        nft.config.timesteps = Some(4);
        assert_eq!(nft.gradients(), 24 * 4, "the smallest among them");
        no_grad(|| lora.parameters().iter().for_each(|p| drop(p.shallow_clone().g_add_scalar_(1.0))));
        let old: Vec<Tensor> = nft.old.parameters().iter().map(|p| p.detach().copy()).collect();
        nft.after(0);
        for ((before, now), trained) in old.iter().zip(nft.old.parameters()).zip(lora.parameters()) {
            let wanted = before * share + trained.detach() * (1.0 - share);
            assert!(largest(&(wanted - now)) < 1e-6, "d = {share} after {updates} steps at rate 0.1");
        }
    }
}
