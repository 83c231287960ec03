//! What every distillation shares: network, student, and frozen teachers, each with its task.

pub use opdflow_spec::distillation::*;

use crate::leaves;
use crate::objective::Report;
use crate::task::{Task, prompts_of_round};
use crate::teacher::Canvas;
use anyhow::Result;
use opdflow_models::condition::Condition;
use opdflow_models::field::{Field, Guidance};
use opdflow_models::lora::Lora;
use opdflow_models::network::Network;
use opdflow_models::rng::{derive, normal};
use opdflow_models::rollout::{Keep, Rollout, RolloutOptions, rollout};
use opdflow_models::{Schedule, Solver};
use tch::Tensor;

/// A frozen teacher with its task.
pub struct TaskTeacher<'a> {
    /// The adapter.
    pub lora: &'a Lora,
    /// The teacher's own guidance scale.
    pub guidance: f64,
    /// The task's prompts. Its reward is not used.
    pub task: &'a dyn Task,
}

/// One student, several teachers.
pub struct Distillation<'a> {
    /// How the student samples.
    pub sampling: StudentSampling,
    /// Latents and device.
    pub canvas: Canvas,
    /// The network that student and teachers share.
    pub model: &'a dyn Network,
    /// The encoded empty prompt.
    pub empty: &'a Condition,
    /// The student's adapter.
    pub lora: &'a Lora,
    /// Teachers, visited in this order.
    pub teachers: Vec<TaskTeacher<'a>>,
    /// The seed.
    pub seed: u64,
}

/// The prompts and the starting noise of one task in one round.
pub struct Batch {
    /// One row per image.
    pub condition: Condition,
    /// Starting noise, `[B, C, H, W]`.
    pub start: Tensor,
    /// Seed of whatever else is drawn for this task in this round.
    pub seed: u64,
}

impl Batch {
    /// Standard normal noise for a purpose and a step, in the shape of the starting noise.
    pub fn noise(&self, purpose: &str, step: usize) -> Tensor {
        normal(&self.start.size(), derive(self.seed, purpose, step as u64), self.start.device())
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> i64 {
        self.start.size()[0]
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A micro-batch of one task's images, at one of several steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The task.
    pub task: usize,
    /// The step, or the noise level.
    pub step: usize,
    /// The first of the task's images.
    pub at: i64,
    /// How many.
    pub count: i64,
}

impl Piece {
    /// Its rows of what the task has for all images.
    pub fn of(&self, rows: &Tensor) -> Tensor {
        rows.narrow(0, self.at, self.count)
    }
}

impl Distillation<'_> {
    fn field<'b>(&'b self, lora: Option<&'b Lora>, guidance: f64) -> Field<'b> {
        Field { model: self.model, lora, guidance: Guidance { scale: guidance, empty: self.empty } }
    }

    /// The student's guidance scale.
    #[must_use]
    pub fn guidance(&self) -> f64 {
        self.sampling.guidance(self.model.architecture())
    }

    /// The student's velocity field.
    pub fn student(&self) -> Field<'_> {
        self.field(Some(self.lora), self.guidance())
    }

    /// The field of task `index`'s teacher, with its own guidance.
    pub fn teacher(&self, index: usize) -> Field<'_> {
        let teacher = &self.teachers[index];
        self.field(Some(teacher.lora), teacher.guidance)
    }

    /// The base's field, with the student's guidance.
    pub fn base(&self) -> Field<'_> {
        self.field(None, self.guidance())
    }

    /// The field of an adapter, without guidance.
    pub fn plain<'b>(&'b self, lora: &'b Lora) -> Field<'b> {
        self.field(Some(lora), 1.0)
    }

    /// The noise levels of the student's sampling.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        self.model.architecture().schedule(self.sampling.num_inference_steps, self.canvas.shape)
    }

    /// Images of a round, over all tasks.
    #[must_use]
    pub fn images(&self) -> u64 {
        (self.sampling.prompts * self.teachers.len()) as u64
    }

    /// A rollout of `field` from the batch's noise, without gradients.
    ///
    /// # Errors
    /// Another process of the stage is gone.
    pub fn rollout(&self, field: &Field, batch: &Batch, solver: &Solver, keep: Keep) -> Result<Rollout> {
        let schedule = self.schedule();
        let Canvas { micro, ranks, .. } = self.canvas;
        let options = RolloutOptions { schedule: &schedule, solver, window: None, keep, micro, ranks };
        rollout(field, &batch.condition, &batch.start, &options, &mut |j| batch.noise("step", j))
    }

    /// Prompts and noise of task `index` in round `round`.
    ///
    /// # Errors
    /// A prompt that cannot be encoded.
    pub fn batch(&self, index: usize, round: u64) -> Result<Batch> {
        let stream = derive(self.seed, "lesson", index as u64);
        let task = self.teachers[index].task;
        let chosen = prompts_of_round(task.prompts(), self.sampling.prompts, stream, round);
        let condition = task.condition(&chosen)?;
        let start = self.canvas.noise(chosen.len(), derive(stream, "start", round));
        Ok(Batch { condition, start, seed: derive(stream, "rollout", round) })
    }

    /// Learns from all images of all tasks, of which there are so many, at `steps` steps each: `give` adds the gradient of a piece to
    /// those of `params` and returns numbers. Gives by task the sums of these.
    ///
    /// # Errors
    /// What `give` says; another process of the stage is gone.
    pub fn learn(
        &self,
        params: &[Tensor],
        images: &[i64],
        steps: usize,
        give: impl FnMut(&Piece) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Vec<f64>>> {
        let mut work = Vec::new();
        for (task, images) in images.iter().enumerate() {
            for step in 0..steps {
                work.extend(self.canvas.micros(*images).map(|(at, count)| Piece { task, step, at, count }));
            }
        }
        let told = leaves::over(self.canvas.ranks, params, &work, give)?;
        let width = told.iter().map(Vec::len).max().unwrap_or(0);
        let of_task = |task| {
            let own: Vec<Vec<f64>> =
                told.iter().zip(&work).filter(|(_, w)| w.task == task).map(|(n, _)| n.clone()).collect();
            (0..width).map(|at| leaves::sum(&own, at)).collect()
        };
        Ok((0..images.len()).map(of_task).collect())
    }

    /// Reports the loss of each task and the mean of all.
    #[must_use]
    pub fn report(&self, losses: impl IntoIterator<Item = f64>) -> Report {
        let mut report = Report::new();
        let mut total = 0.0;
        for (teacher, loss) in self.teachers.iter().zip(losses) {
            total += loss / self.teachers.len() as f64;
            report.push((format!("loss_{}", teacher.task.name()), loss));
        }
        report.push(("loss".to_owned(), total));
        report
    }
}
