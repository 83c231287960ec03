//! The textbook way to a round of distillation, to hold the single pass against.

use opdflow_models::field::{Field, Guidance};
use opdflow_models::lora::Lora;
use opdflow_models::rng::{derive, normal};
use opdflow_models::rollout::{Keep, Way, rollout};
use opdflow_models::solver::TakeStep as _;
use opdflow_training::opd::Opd;
use opdflow_training::task::prompts_of_round;
use tch::{Kind, Tensor, no_grad};

/// Rolls the student out and keeps every state, then goes over the states again with gradients. `each` gets every step's
/// share of the mean loss, at the parameters as `change`, called between the two, leaves them.
pub fn rollout_then_train(opd: &Opd, round: u64, change: &dyn Fn(), each: &mut dyn FnMut(Tensor)) {
    let (school, walk) = (&opd.school, &opd.school.walk);
    let field = |lora: &'_ Lora, scale: f64, x: &Tensor, sigma: f64, condition: &_| {
        let guidance = Guidance { scale, empty: school.empty };
        Field { model: school.model, lora: Some(lora), guidance }.velocity_at(x, sigma, condition)
    };
    let schedule = school.schedule();
    let mut ways = Vec::new();
    for (i, lesson) in school.lessons.iter().enumerate() {
        let stream = derive(school.seed, "lesson", i as u64);
        let chosen = prompts_of_round(lesson.task.prompts(), walk.prompts, stream, round);
        let condition = lesson.task.condition(&chosen).unwrap();
        let start = school.canvas.noise(chosen.len(), derive(stream, "start", round));
        let guidance = Guidance { scale: walk.guidance, empty: school.empty };
        let student = Field { model: school.model, lora: Some(school.lora), guidance };
        let along = Way { schedule: &schedule, solver: &walk.solver, window: None, keep: Keep::All, micro: 100 };
        let noises = derive(stream, "rollout", round);
        let mut draw = |j: usize| normal(&start.size(), derive(noises, "step", j as u64), start.device());
        let way = rollout(&student, &condition, &start, &along, &mut draw);
        ways.push((way, condition));
    }
    change();
    for (lesson, (way, condition)) in school.lessons.iter().zip(&ways) {
        for j in 0..schedule.trained() {
            let (x, step) = (&way.states[j], walk.solver.step(&schedule, j));
            let goal = no_grad(|| field(lesson.teacher, lesson.guidance, x, step.sigma, condition));
            let v = field(school.lora, walk.guidance, x, step.sigma, condition);
            // Written out: (mu_S - mu_T)^2 / (2 std^2), or half the square without noise.
            let apart = (step.mean(x, &v, None) - step.mean(x, &goal, None)).square();
            let variance = if step.std > 0.0 { step.std * step.std } else { 1.0 };
            let share = 1.0 / (2.0 * variance * schedule.trained() as f64 * school.lessons.len() as f64);
            each(apart.mean(Kind::Float) * share);
        }
    }
}
