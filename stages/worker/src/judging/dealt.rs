//! A reward whose images are dealt to the processes of the stage. All of them get all scores.

use opdflow_ranks::Ranks;
use opdflow_rewards::{Image, Reward, RewardError, Score, Subject};
use tch::Device;

/// Images that are dealt together. Networks take so many at once, and what they make of an image may hang, in its last bits, on how many
/// it is among: so each batch has the same images as with one process.
pub const BATCH: usize = opdflow_reward_models::BATCH;

/// A reward, shared.
pub struct Dealt {
    inner: Box<dyn Reward>,
    ranks: Ranks,
    /// Where scores travel.
    device: Device,
}

impl Dealt {
    /// `inner`, shared by these processes.
    pub fn new(inner: Box<dyn Reward>, ranks: Ranks, device: Device) -> Self {
        Self { inner, ranks, device }
    }
}

impl Reward for Dealt {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn applies(&self, subject: &Subject) -> bool {
        self.inner.applies(subject)
    }

    fn refuses(&self, subject: &Subject) -> Option<RewardError> {
        self.inner.refuses(subject)
    }

    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        if self.ranks.world() == 1 || images.len() != subjects.len() {
            return self.inner.score(images, subjects);
        }
        let own = self.ranks.own_rows(images.len(), BATCH);
        let scores = self.inner.score(&images[own.clone()], &subjects[own.clone()]);
        let scores = scores.map_err(|error| at(error, own.start))?;
        // Scores that are not finite have no form in JSON: they travel as bits.
        let failed = |why: String| RewardError::Failed { reward: self.name().to_owned(), why };
        let sent: Vec<_> = scores.iter().map(bits).collect();
        let bytes = serde_json::to_vec(&sent).map_err(|e| failed(e.to_string()))?;
        let mut all = Vec::with_capacity(images.len());
        for part in self.ranks.gather_bytes(&bytes, self.device).map_err(|e| RewardError::Parted(format!("{e:#}")))? {
            let part: Vec<Bits> = serde_json::from_slice(&part).map_err(|e| failed(e.to_string()))?;
            all.extend(part.into_iter().map(score));
        }
        Ok(all)
    }
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

/// An error about an image, by its number among all.
fn at(error: RewardError, first: usize) -> RewardError {
    match error {
        RewardError::Image { index, width, height, bytes } => {
            RewardError::Image { index: index + first, width, height, bytes }
        }
        other => other,
    }
}
