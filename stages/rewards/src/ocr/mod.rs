//! OCR: does the image contain the text that the prompt quotes?
//!
//! Text is found and read by PP-OCR (PaddlePaddle, Apache-2.0) through ONNX Runtime: by PP-OCRv4 with the steps of RapidOCR
//! 1.4.4 between the networks, or by any other pair of its networks with the steps of PaddleOCR ([`Reading`]).

mod find;
mod prepare;
mod read;
mod reading;
mod rectangle;
mod region;
mod runtime;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use crate::reward::check;
use crate::{Image, Reward, RewardError, Score, Subject};

pub use reading::{Channels, Normalization, Preset, ReaderConfig, Reading, Resize};
pub use runtime::{Assets, DET_SHA256, ONNXRUNTIME_SHA256, REC_SHA256};

use find::Finder;
use read::Reader;
use runtime::Sessions;

/// The text reward of Flow-GRPO (Liu et al. 2025): 1 when the target is a part of what is read, and otherwise
/// 1 - min(d, n)/n with d the Levenshtein distance and n the length of the target. Spaces are dropped and letters
/// lower-cased on both sides. Values are 0 to 1; the part `exact` says whether the two texts are equal.
pub struct Ocr {
    finder: Finder,
    reader: Reader,
    reading: Reading,
}

/// A reader of the user's: networks of PP-OCR as ONNX files.
#[derive(Debug, Clone, PartialEq)]
pub struct Files {
    /// The text finder.
    pub det: PathBuf,
    /// The text reader.
    pub rec: PathBuf,
    /// Its characters, one a line in UTF-8, if they are not in the model itself.
    pub characters: Option<PathBuf>,
}

/// A line of text in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its box, x and y of each corner in pixels: upper left, upper right, lower right, lower left. Of an image that is
    /// larger than 2000 pixels, smaller than 30 or wider than eight times its height, they are places in the image as
    /// it is made ready.
    pub corners: [[f32; 2]; 4],
    /// What is written there.
    pub text: String,
    /// The mean probability of its characters.
    pub confidence: f64,
}

impl Ocr {
    /// Loads the two models. Takes about a quarter of a second.
    ///
    /// The process keeps the first ONNX Runtime that loads; later calls use it whatever their path.
    ///
    /// # Errors
    /// [`RewardError::Asset`] for a missing file, [`RewardError::Digest`] for a model or a library of other contents, and
    /// [`RewardError::Runtime`] when the library does not load.
    pub fn load(assets: &Assets) -> Result<Ocr, RewardError> {
        let runtime = runtime::open(&assets.onnxruntime, assets.onnxruntime_sha256)?;
        let reading = Preset::default().reading();
        let finder = Finder::new(Sessions::open(&runtime, &assets.det, Some(DET_SHA256))?, reading);
        let reader = Sessions::open(&runtime, &assets.rec, Some(REC_SHA256))?;
        Ok(Ocr { finder, reader: Reader::new(reader, reading.channels, None)?, reading })
    }

    /// Loads networks of the user's, with the ONNX Runtime of `assets`.
    ///
    /// # Errors
    /// A file that is missing, or no model of PP-OCR's; a reader whose characters are nowhere, or of another number than its classes.
    pub fn of_files(assets: &Assets, files: &Files, reading: Reading) -> Result<Ocr, RewardError> {
        let runtime = runtime::open(&assets.onnxruntime, assets.onnxruntime_sha256)?;
        let asset = |path: &Path, source| RewardError::Asset { path: path.to_owned(), source };
        let characters = |path: &PathBuf| {
            let bytes = opdflow_io::file::read(path, opdflow_io::file::DESCRIPTION).map_err(|e| asset(path, e))?;
            let what = || RewardError::Model(format!("{} is no text of UTF-8", path.display()));
            String::from_utf8(bytes).map_err(|_| what())
        };
        let finder = Finder::new(Sessions::open(&runtime, &files.det, None)?, reading);
        let reader = Sessions::open(&runtime, &files.rec, None)?;
        let characters = files.characters.as_ref().map(characters).transpose()?;
        let ocr = Ocr { finder, reader: Reader::new(reader, reading.channels, characters)?, reading };
        // Networks in each other's place, or of another form than PP-OCR's, show as soon as they are asked.
        let blank = |width: usize, height: usize| Image { width, height, rgb: vec![127; 3 * width * height] };
        ocr.finder.find(&blank(64, 64))?;
        ocr.reader.read(&[blank(96, 48)])?;
        Ok(ocr)
    }

    /// The process's one reader: loaded by the first call, and again only for other files.
    ///
    /// # Errors
    /// As for [`Ocr::load`].
    pub fn shared(assets: &Assets) -> Result<Arc<Ocr>, RewardError> {
        static SHARED: Mutex<Option<(Assets, Arc<Ocr>)>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, ocr)) = shared.as_ref()
            && of == assets
        {
            return Ok(Arc::clone(ocr));
        }
        let ocr = Arc::new(Ocr::load(assets)?);
        *shared = Some((assets.clone(), Arc::clone(&ocr)));
        Ok(ocr)
    }

    /// The text in each image: its lines from top to bottom, on one height from left to right, without anything between.
    ///
    /// # Errors
    /// When the runtime fails.
    pub fn read(&self, images: &[Image]) -> Result<Vec<String>, RewardError> {
        let lines = self.lines(images)?;
        Ok(lines.iter().map(|lines| lines.iter().map(|line| line.text.as_str()).collect()).collect())
    }

    /// The lines of each image, from top to bottom, on one height from left to right.
    ///
    /// Images are read side by side on the threads of rayon's pool; what is read in one depends on no other, and on no
    /// number of threads.
    ///
    /// # Errors
    /// When the runtime fails.
    pub fn lines(&self, images: &[Image]) -> Result<Vec<Vec<Line>>, RewardError> {
        images.par_iter().map(|image| self.lines_of(image)).collect()
    }

    fn lines_of(&self, image: &Image) -> Result<Vec<Line>, RewardError> {
        let image = match self.reading.resize {
            Resize::Rapidocr {} => prepare::prepared(image),
            _ => Cow::Borrowed(image),
        };
        let found = self.finder.find(&image)?;
        let crops: Vec<Image> = found.iter().map(|corners| find::crop(&image, *corners)).collect();
        let texts = self.reader.read(&crops)?;
        let lines = found.into_iter().zip(texts);
        let lines = lines.map(|(corners, read)| Line { corners, text: read.characters, confidence: read.confidence });
        Ok(lines.filter(|line| line.confidence >= self.reading.drop_score).collect())
    }
}

impl Reward for Ocr {
    fn name(&self) -> &str {
        "ocr"
    }

    fn applies(&self, subject: &Subject) -> bool {
        subject.target().is_some()
    }

    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        check(images, subjects)?;
        let target = |s: &Subject| {
            s.target().map(plain).ok_or_else(|| RewardError::Missing {
                reward: "ocr".to_owned(),
                text: s.text.to_owned(),
                needs: "text between quotation marks",
            })
        };
        let targets = subjects.iter().map(target).collect::<Result<Vec<_>, _>>()?;
        let texts = self.read(images)?;
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
        let of = |text, target| Subject { text, target, ..Subject::default() }.target();
        assert_eq!(of("the word \"HAT\"", None), Some("HAT"));
        assert_eq!(of("a sign \"A\" and \"B\"", None), Some("A"));
        assert_eq!(of("half a \"quote", None), None);
        assert_eq!(of("a red circle", None), None);
        assert_eq!(of("the word \"HAT\"", Some("CAP")), Some("CAP"));
    }
}
