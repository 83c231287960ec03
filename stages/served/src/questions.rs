//! A chat model that is asked several questions about each image: those that stand beside its prompt.

use crate::Judge;
use opdflow_rewards::questions::{Question, dpg_bench, soft_tifa};
use opdflow_rewards::{Image, Reward, RewardError, Score, Subject, check};
use opdflow_spec::served::Asking;

/// A judge that asks a prompt's questions one by one, and what its answers are worth together.
pub struct Questioned {
    judge: Judge,
    asking: Asking,
}

impl Questioned {
    /// By this judge, whose parser reads the answer to one question.
    #[must_use]
    pub fn new(judge: Judge, asking: Asking) -> Self {
        Self { judge, asking }
    }

    /// The score of an image, of those of its questions.
    fn together(&self, questions: &[Question], scores: &[Score]) -> Score {
        let values: Vec<f64> = scores.iter().map(|score| score.value).collect();
        if self.asking == Asking::DpgBench {
            let yes: Vec<bool> = values.iter().map(|value| *value > 0.0).collect();
            let (value, unconditional) = dpg_bench(questions, &yes);
            return Score::new(value, [("unconditional", unconditional)]);
        }
        let (geometric, mean) = soft_tifa(&values);
        Score::new(geometric, [("mean", mean)])
    }
}

impl Reward for Questioned {
    fn name(&self) -> &str {
        self.judge.name()
    }

    fn applies(&self, subject: &Subject) -> bool {
        let suits = |q: &Question| self.asking.suits(&q.question, &q.answer, !q.after.is_empty());
        !subject.questions.is_empty() && subject.questions.iter().all(suits)
    }

    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        check(images, subjects)?;
        let (mut each, mut asked, mut of) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (image, subject)) in images.iter().zip(subjects).enumerate() {
            if !self.applies(subject) {
                let needs = self.asking.needs();
                return Err(RewardError::Missing {
                    reward: self.name().to_owned(),
                    text: subject.text.to_owned(),
                    needs,
                });
            }
            for question in subject.questions {
                each.push(image.clone());
                of.push(i);
                let about = std::slice::from_ref(question);
                asked.push(Subject { text: &question.question, questions: about, ..Subject::default() });
            }
        }
        // An error is about an image, not about a question.
        let of_image = |error| match error {
            RewardError::Unjudged { reward, image, text, why } => {
                RewardError::Unjudged { reward, image: of.get(image).copied().unwrap_or(image), text, why }
            }
            other => other,
        };
        let scores = self.judge.score(&each, &asked).map_err(of_image)?;
        let mut rest = scores.as_slice();
        let next = |subject: &Subject| {
            let (own, more) = rest.split_at(subject.questions.len().min(rest.len()));
            rest = more;
            self.together(subject.questions, own)
        };
        Ok(subjects.iter().map(next).collect())
    }
}
