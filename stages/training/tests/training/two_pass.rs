//! A round of distillation as textbooks have it, which the single pass is compared with.

use opdflow_models::field::{Field, Guidance};
use opdflow_models::lora::Lora;
use opdflow_models::rng::{derive, normal};
use opdflow_models::rollout::{Keep, RolloutOptions, rollout};
use opdflow_models::solver::TakeStep as _;
use opdflow_ranks::Ranks;
use opdflow_training::opd::Opd;
use opdflow_training::task::prompts_of_round;
use tch::{Kind, Tensor, no_grad};

/// Rolls the student out and keeps every state, then goes over the states again with gradients. `each` gets every step's
/// share of the mean loss, at the parameters as `change`, called between the two, leaves them.
pub fn rollout_then_train(opd: &Opd, round: u64, change: &dyn Fn(), each: &mut dyn FnMut(Tensor)) {
    let (distillation, sampling) = (&opd.distillation, &opd.distillation.sampling);
    let field = |lora: &'_ Lora, scale: f64, x: &Tensor, sigma: f64, condition: &_| {
        let guidance = Guidance { scale, empty: distillation.empty };
        Field { model: distillation.model, lora: Some(lora), guidance }.velocity_at(x, sigma, condition)
    };
    let schedule = distillation.schedule();
    let mut trajectories = Vec::new();
    for (i, teacher) in distillation.teachers.iter().enumerate() {
        let stream = derive(distillation.seed, "lesson", i as u64);
        let chosen = prompts_of_round(teacher.task.prompts(), sampling.prompts, stream, round);
        let condition = teacher.task.condition(&chosen).unwrap();
        let start = distillation.canvas.noise(chosen.len(), derive(stream, "start", round));
        let guidance = Guidance { scale: distillation.guidance(), empty: distillation.empty };
        let student = Field { model: distillation.model, lora: Some(distillation.lora), guidance };
        let along = RolloutOptions {
            schedule: &schedule,
            solver: &sampling.solver,
            window: None,
            keep: Keep::All,
            micro: 100,
            ranks: Ranks::alone(),
        };
        let noises = derive(stream, "rollout", round);
        let mut draw = |j: usize| normal(&start.size(), derive(noises, "step", j as u64), start.device());
        let trajectory = rollout(&student, &condition, &start, &along, &mut draw).unwrap();
        trajectories.push((trajectory, condition));
    }
    change();
    for (teacher, (trajectory, condition)) in distillation.teachers.iter().zip(&trajectories) {
        for j in 0..schedule.trained() {
            let (x, step) = (&trajectory.states[j], sampling.solver.step(&schedule, j));
            let goal = no_grad(|| field(teacher.lora, teacher.guidance, x, step.sigma, condition));
            let v = field(distillation.lora, distillation.guidance(), x, step.sigma, condition);
            // Written out: (mu_S - mu_T)^2 / (2 std^2), or half the square without noise.
            let apart = (step.mean(x, &v, None) - step.mean(x, &goal, None)).square();
            let variance = if step.std > 0.0 { step.std * step.std } else { 1.0 };
            let share = 1.0 / (2.0 * variance * schedule.trained() as f64 * distillation.teachers.len() as f64);
            each(apart.mean(Kind::Float) * share);
        }
    }
}
