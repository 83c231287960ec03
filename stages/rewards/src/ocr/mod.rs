//! OCR: does the picture contain the text that the prompt quotes?
//!
//! Text is found and read by PP-OCRv4 (PaddlePaddle, Apache-2.0) through ONNX Runtime, each picture at its own size.

mod find;
mod read;
mod resize;
mod runtime;

use crate::reward::check;
use crate::{Picture, Reward, RewardError, Score, Subject};

pub use runtime::{Assets, DET_SHA256, ONNXRUNTIME_SHA256, REC_SHA256};

use find::Finder;
use read::Reader;

/// The text reward of Flow-GRPO (Liu et al. 2025): 1 when the target is a part of what is read, and otherwise
/// 1 - min(d, n)/n with d the Levenshtein distance and n the length of the target. Spaces are dropped and letters
/// lower-cased on both sides. Values are 0 to 1; the part `exact` says whether the two texts are equal.
pub struct Ocr {
    finder: Finder,
    reader: Reader,
}

impl Ocr {
    /// Loads the two models, on one thread each. Takes about a quarter of a second.
    ///
    /// The process keeps the first ONNX Runtime that loads; later calls use it whatever their path.
    ///
    /// # Errors
    /// [`RewardError::Asset`] for a missing file, [`RewardError::Digest`] for a model or a library of other contents, and
    /// [`RewardError::Runtime`] when the library does not load.
    pub fn load(assets: &Assets) -> Result<Ocr, RewardError> {
        let runtime = runtime::open(&assets.onnxruntime, assets.onnxruntime_sha256)?;
        let finder = Finder::new(runtime::session(&runtime, &assets.det, DET_SHA256)?);
        let reader = Reader::new(runtime::session(&runtime, &assets.rec, REC_SHA256)?)?;
        Ok(Ocr { finder, reader })
    }

    /// The text in each picture: its lines from top to bottom, on one height from left to right, without anything between.
    ///
    /// # Errors
    /// When the runtime fails.
    pub fn read(&self, pictures: &[Picture]) -> Result<Vec<String>, RewardError> {
        let found = self.finder.find(pictures)?;
        let mut crops = Vec::new();
        for (picture, bounds) in pictures.iter().zip(&found) {
            crops.extend(bounds.iter().map(|b| find::crop(picture, *b)));
        }
        let mut lines = self.reader.read(&crops)?.into_iter();
        Ok(found.iter().map(|bounds| lines.by_ref().take(bounds.len()).collect()).collect())
    }
}

impl Reward for Ocr {
    fn name(&self) -> &str {
        "ocr"
    }

    fn applies(&self, subject: &Subject) -> bool {
        subject.target().is_some()
    }

    fn score(&self, pictures: &[Picture], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        check(pictures, subjects)?;
        let target = |s: &Subject| {
            s.target().map(plain).ok_or_else(|| RewardError::Missing {
                reward: "ocr".to_owned(),
                text: s.text.to_owned(),
                needs: "text between quotation marks",
            })
        };
        let targets = subjects.iter().map(target).collect::<Result<Vec<_>, _>>()?;
        let texts = self.read(pictures)?;
        Ok(texts.iter().zip(&targets).map(|(text, target)| mark(&plain(text), target)).collect())
    }
}

/// Without spaces, in lower case.
fn plain(text: &str) -> String {
    text.replace(' ', "").to_lowercase()
}

fn mark(text: &str, target: &str) -> Score {
    let exact = f64::from(u8::from(text == target));
    let length = target.chars().count();
    let value = if text.contains(target) {
        1.0
    } else {
        1.0 - strsim::levenshtein(text, target).min(length) as f64 / length as f64
    };
    Score::new(value, [("exact", exact)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, target: &str) -> (f64, f64) {
        let score = mark(&plain(text), &plain(target));
        (score.value, score.parts["exact"])
    }

    #[test]
    fn marks_by_hand() {
        assert_eq!(value("HAT", "HAT"), (1.0, 1.0));
        assert_eq!(value("h a t", "HAT"), (1.0, 1.0));
        assert_eq!(value("THE HAT", "HAT"), (1.0, 0.0));
        // One letter of four wrong, one missing; nothing right; nothing read; far too much read.
        assert_eq!(value("SHIP", "SHOP"), (0.75, 0.0));
        assert_eq!(value("SHP", "SHOP"), (0.75, 0.0));
        assert_eq!(value("XY", "AB"), (0.0, 0.0));
        assert_eq!(value("", "AB"), (0.0, 0.0));
        assert_eq!(value("ZZZZZZZZ", "AB"), (0.0, 0.0));
        // An empty target is a part of every text.
        assert_eq!(value("A", ""), (1.0, 0.0));
    }

    #[test]
    fn the_target_is_quoted_or_given() {
        let of = |text, target| Subject { text, target, geneval: None }.target();
        assert_eq!(of("the word \"HAT\"", None), Some("HAT"));
        assert_eq!(of("a sign \"A\" and \"B\"", None), Some("A"));
        assert_eq!(of("half a \"quote", None), None);
        assert_eq!(of("a red circle", None), None);
        assert_eq!(of("the word \"HAT\"", Some("CAP")), Some("CAP"));
    }
}
