//! What a network needs to be a reward.

use anyhow::Result;
use opdflow_rewards::{Image, Reward, RewardError, Score, Subject, check};
use std::sync::{Mutex, PoisonError};

/// A network that judges images.
pub trait Judge: Send {
    /// The reward's name.
    const NAME: &'static str;

    /// One score for each image and the text of the same place. The lists are of one length, not empty, the images
    /// whole.
    ///
    /// # Errors
    /// When the network and what it is given do not go together.
    fn judge(&self, images: &[Image], texts: &[&str]) -> Result<Vec<Score>>;
}

/// A judge behind a lock: tensors may go from thread to thread, but not be seen by two at once.
pub struct Locked<J>(Mutex<J>);

impl<J> Locked<J> {
    /// Behind a lock.
    pub fn new(judge: J) -> Locked<J> {
        Locked(Mutex::new(judge))
    }
}

impl<J: Judge> Reward for Locked<J> {
    fn name(&self) -> &str {
        J::NAME
    }

    fn applies(&self, _: &Subject) -> bool {
        true
    }

    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        check(images, subjects)?;
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |why: String| RewardError::Failed { reward: J::NAME.to_owned(), why };
        let texts: Vec<&str> = subjects.iter().map(|s| s.text).collect();
        // A network has no state that a panic could leave half done.
        let judge = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let scores = judge.judge(images, &texts).map_err(|e| failed(format!("{e:#}")))?;
        match scores.iter().enumerate().find_map(|(i, s)| Some((i, s.broken()?.1))) {
            None => Ok(scores),
            Some((image, found)) => {
                Err(RewardError::NotFinite { reward: J::NAME.to_owned(), image, text: texts[image].to_owned(), found })
            }
        }
    }
}
