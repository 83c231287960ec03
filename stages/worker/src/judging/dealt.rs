//! Images that are dealt to the processes of a stage to be judged. All of them get all scores.

use opdflow_ranks::Ranks;
use opdflow_rewards::{Image, Reward, RewardError, Score, Subject};
use opdflow_served::{Answer, Answers};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::Device;

/// Images that are dealt together. Networks take so many at once, and what they make of an image may hang, in its last bits, on how many
/// it is among: so each batch has the same images as with one process.
pub const BATCH: usize = opdflow_reward_models::BATCH;

/// How the scores of one process come to all.
#[derive(Clone)]
pub struct Dealing {
    ranks: Ranks,
    /// Where scores travel.
    device: Device,
    /// The answers of servers, which each process asks for its own images.
    answers: Option<Arc<Answers>>,
}

impl Dealing {
    /// Among these processes.
    pub fn new(ranks: Ranks, device: Device) -> Self {
        Self { ranks, device, answers: None }
    }

    /// The same, and all processes get all of these answers.
    #[must_use]
    pub fn with(self, answers: &Arc<Answers>) -> Self {
        Self { answers: Some(answers.clone()), ..self }
    }

    /// The scores of images that all processes have, each of which asks `reward` for its own part.
    ///
    /// # Errors
    /// As for [`Dealing::gathered`].
    pub fn score(
        &self,
        reward: &dyn Reward,
        images: &[Image],
        subjects: &[Subject],
    ) -> Result<Vec<Score>, RewardError> {
        if self.ranks.world() == 1 || images.len() != subjects.len() {
            return reward.score(images, subjects);
        }
        let own = self.ranks.own_rows(images.len(), BATCH);
        let scores = reward.score(&images[own.clone()], &subjects[own.clone()]);
        self.gathered(reward.name(), scores.map_err(|error| at(error, own.start)))
    }

    /// The scores of all images by the reward of this name. `own`: those of this process's, which lie beside each other.
    ///
    /// # Errors
    /// What `own` says, and where a server is away or all were asked to stop, in any of the processes; another one is gone.
    pub fn gathered(&self, reward: &str, own: Result<Vec<Score>, RewardError>) -> Result<Vec<Score>, RewardError> {
        if self.ranks.world() == 1 {
            return own;
        }
        let failed = |why: String| RewardError::Failed { reward: reward.to_owned(), why };
        let fresh = self.answers.as_ref().map(|answers| answers.fresh()).unwrap_or_default();
        let sent = match own {
            Ok(scores) => Sent { scores: scores.iter().map(bits).collect(), fresh, ..Sent::default() },
            // All processes must stop for it alike, and keep what was answered.
            Err(RewardError::Away { reward, why }) => Sent { away: Some((reward, why)), fresh, ..Sent::default() },
            Err(RewardError::Spent { reward, why }) => Sent { spent: Some((reward, why)), fresh, ..Sent::default() },
            Err(RewardError::Stopped(reward)) => Sent { stopped: Some(reward), fresh, ..Sent::default() },
            Err(other) => return Err(other),
        };
        let bytes = serde_json::to_vec(&sent).map_err(|e| failed(e.to_string()))?;
        let (mut all, mut why) = (Vec::new(), None);
        for part in self.ranks.gather_bytes(&bytes, self.device).map_err(|e| RewardError::Parted(format!("{e:#}")))? {
            let part: Sent = serde_json::from_slice(&part).map_err(|e| failed(e.to_string()))?;
            all.extend(part.scores.into_iter().map(score));
            if let Some(answers) = &self.answers {
                answers.take_over(part.fresh);
            }
            let away = part.away.map(|(reward, why)| RewardError::Away { reward, why });
            let spent = part.spent.map(|(reward, why)| RewardError::Spent { reward, why });
            why = why.or(away).or(spent).or(part.stopped.map(RewardError::Stopped));
        }
        why.map_or(Ok(all), Err)
    }
}

/// What each process tells the others of its images. Scores that are not finite have no form in JSON: they travel as bits.
#[derive(Default, Serialize, Deserialize)]
struct Sent {
    scores: Vec<Bits>,
    fresh: Vec<Answer>,
    away: Option<(String, String)>,
    spent: Option<(String, String)>,
    stopped: Option<String>,
}

/// A score's numbers.
type Bits = (u64, Vec<(String, u64)>);

fn bits(score: &Score) -> Bits {
    (score.value.to_bits(), score.parts.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect())
}

fn score((value, parts): Bits) -> Score {
    let parts = parts.into_iter().map(|(name, bits)| (name, f64::from_bits(bits))).collect();
    Score { value: f64::from_bits(value), parts }
}

/// An error about an image of those from number `first` on, by its number among all.
pub fn at(error: RewardError, first: usize) -> RewardError {
    match error {
        RewardError::Image { index, width, height, bytes } => {
            RewardError::Image { index: index + first, width, height, bytes }
        }
        RewardError::Unjudged { reward, image, text, why } => {
            RewardError::Unjudged { reward, image: image + first, text, why }
        }
        other => other,
    }
}
