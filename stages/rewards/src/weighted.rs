//! Several rewards at once.

use crate::reward::check;
use crate::{Image, Reward, RewardError, Score, Subject};

/// A weighted sum of rewards.
///
/// A reward counts for the subjects it applies to; a subject to which none applies is an error. Rewards of weight 0 are
/// computed and reported all the same. The parts hold each reward's own value under its name and its parts as `name.part`.
pub struct Weighted {
    name: String,
    terms: Vec<(f64, Box<dyn Reward>)>,
}

impl Weighted {
    /// A sum of rewards.
    ///
    /// # Errors
    /// [`RewardError::Weights`] when there is no reward, a weight is not finite, or two rewards share a name.
    pub fn new(terms: Vec<(f64, Box<dyn Reward>)>) -> Result<Weighted, RewardError> {
        let names: Vec<&str> = terms.iter().map(|(_, r)| r.name()).collect();
        if terms.is_empty() {
            return Err(RewardError::Weights("there is no reward".to_owned()));
        }
        if let Some((weight, reward)) = terms.iter().find(|(w, _)| !w.is_finite()) {
            return Err(RewardError::Weights(format!("`{}` has weight {weight}", reward.name())));
        }
        if let Some(twice) = names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)) {
            return Err(RewardError::Weights(format!("`{}` is there twice", twice.1)));
        }
        Ok(Weighted { name: names.join("+"), terms })
    }

    /// The rewards' names with their weights.
    pub fn terms(&self) -> impl Iterator<Item = (&str, f64)> {
        self.terms.iter().map(|(weight, reward)| (reward.name(), *weight))
    }
}

impl Reward for Weighted {
    fn name(&self) -> &str {
        &self.name
    }

    fn applies(&self, subject: &Subject) -> bool {
        self.terms.iter().any(|(_, r)| r.applies(subject))
    }

    fn refuses(&self, subject: &Subject) -> Option<RewardError> {
        self.terms.iter().find_map(|(_, r)| r.refuses(subject))
    }

    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        check(images, subjects)?;
        if let Some(subject) = subjects.iter().find(|s| !self.applies(s)) {
            return Err(RewardError::Missing {
                reward: self.name.clone(),
                text: subject.text.to_owned(),
                needs: "part that any of these rewards reads",
            });
        }
        let mut sums = vec![Score::default(); images.len()];
        for (weight, reward) in &self.terms {
            let at: Vec<usize> = (0..subjects.len()).filter(|&i| reward.applies(&subjects[i])).collect();
            let some: Vec<Image> = at.iter().map(|&i| images[i].clone()).collect();
            let of: Vec<Subject> = at.iter().map(|&i| subjects[i]).collect();
            for (i, score) in at.into_iter().zip(reward.score(&some, &of)?) {
                sums[i].value += weight * score.value;
                let name = reward.name();
                sums[i].parts.extend(score.parts.into_iter().map(|(part, v)| (format!("{name}.{part}"), v)));
                sums[i].parts.insert(name.to_owned(), score.value);
            }
        }
        Ok(sums)
    }
}
