//! One measure of a reward as a reward of its own.

use crate::{Image, Reward, RewardError, Score, Subject};

/// A reward whose value is one of another's parts: `geneval.strict` is GenEval's strict flag.
pub struct RewardPart {
    name: String,
    part: String,
    whole: Box<dyn Reward>,
}

impl RewardPart {
    /// The part of `whole` called `part`.
    pub fn new(whole: Box<dyn Reward>, part: &str) -> RewardPart {
        RewardPart { name: format!("{}.{part}", whole.name()), part: part.to_owned(), whole }
    }
}

impl Reward for RewardPart {
    fn name(&self) -> &str {
        &self.name
    }

    fn applies(&self, subject: &Subject) -> bool {
        self.whole.applies(subject)
    }

    fn refuses(&self, subject: &Subject) -> Option<RewardError> {
        self.whole.refuses(subject)
    }

    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        let take = |mut score: Score| {
            score.value = score.parts.get(&self.part).copied().ok_or_else(|| RewardError::Part(self.name.clone()))?;
            Ok(score)
        };
        self.whole.score(images, subjects)?.into_iter().map(take).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Looks;

    #[test]
    fn the_value_is_the_part() {
        let image = Image::new(2, 1, vec![0, 0, 0, 255, 255, 255]).unwrap();
        let subject = Subject { text: "x", ..Subject::default() };
        let whole = Looks.score(std::slice::from_ref(&image), &[subject]).unwrap().remove(0);
        let part = RewardPart::new(Box::new(Looks), "contrast");
        assert_eq!(part.name(), "looks.contrast");
        let score = part.score(std::slice::from_ref(&image), &[subject]).unwrap().remove(0);
        assert_eq!(score.value, whole.parts["contrast"]);
        assert!(RewardPart::new(Box::new(Looks), "charm").score(&[image], &[subject]).is_err());
    }
}
