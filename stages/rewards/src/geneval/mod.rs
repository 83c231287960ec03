//! GenEval (Ghosh et al. 2023): does the picture show the objects, counts, colours and places that the prompt names?

mod judge;

use crate::detector::{Detector, Object};
use crate::reward::check;
use crate::{Picture, Reward, RewardError, Score, Subject};

pub use judge::{Found, Verdict, judge};
pub use opdflow_world::geneval::{Exclude, Include, Metadata, Relation, Tag};

/// Least confidence of an object that counts: it must be above.
pub const CONFIDENT: f64 = 0.3;
/// The same for counting prompts.
const CONFIDENT_COUNTING: f64 = 0.9;
/// Most objects of one class.
const MOST: usize = 16;

/// Known oddities of the published training reward, off by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks {
    /// The published reward adds a term of 1 after every position check, passed or not, so that a failed one earns a half.
    /// Off: a failed check adds only its 0.
    pub position_always_adds_one: bool,
}

/// GenEval as a reward. The value is the mean of partial marks, 1 at best and below 0 for gross miscounts; parts are `correct`
/// (GenEval's own rule), `strict` (exact counts) and `partial` (the value again).
pub struct Geneval {
    detector: Box<dyn Detector>,
    quirks: Quirks,
}

impl Geneval {
    /// GenEval by some detector.
    pub fn new(detector: impl Detector + 'static, quirks: Quirks) -> Geneval {
        Geneval { detector: Box::new(detector), quirks }
    }

    fn verdict(&self, picture: &Picture, metadata: &Metadata) -> Result<Verdict, RewardError> {
        let threshold = if metadata.tag == Tag::Counting { CONFIDENT_COUNTING } else { CONFIDENT };
        let mut objects: Vec<Object> =
            self.detector.detect(picture)?.into_iter().filter(|o| o.confidence > threshold).collect();
        // The best come first; ties by place, so that the order does not hang on the detector's.
        objects.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then_with(|| a.bounds[0].total_cmp(&b.bounds[0])));
        let mut found = Vec::new();
        for object in objects {
            if found.iter().filter(|f: &&Found| f.class == object.class).count() >= MOST {
                continue;
            }
            // Colours may cost a pass through a network each; only those that a clause names are told.
            let asked = metadata.include.iter().any(|i| i.color.is_some() && i.class == object.class);
            let colour = if asked { self.detector.colour(picture, &object)? } else { None };
            found.push(Found { class: object.class, bounds: object.bounds, colour });
        }
        judge(&found, metadata, self.quirks)
    }
}

impl Default for Geneval {
    fn default() -> Geneval {
        Geneval::new(crate::detector::Shapes, Quirks::default())
    }
}

impl Reward for Geneval {
    fn name(&self) -> &str {
        "geneval"
    }

    fn applies(&self, subject: &Subject) -> bool {
        subject.geneval.is_some()
    }

    fn refuses(&self, subject: &Subject) -> Option<RewardError> {
        let metadata = subject.geneval?;
        let unknown = metadata.include.iter().find(|i| !self.detector.knows(&i.class))?;
        Some(RewardError::Class {
            prompt: subject.text.to_owned(),
            class: unknown.class.clone(),
            detector: self.detector.name().to_owned(),
        })
    }

    fn score(&self, pictures: &[Picture], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        check(pictures, subjects)?;
        let one = |(picture, subject): (&Picture, &Subject)| {
            let metadata = subject.geneval.ok_or_else(|| RewardError::Missing {
                reward: "geneval".to_owned(),
                text: subject.text.to_owned(),
                needs: "GenEval metadata",
            })?;
            let v = self.verdict(picture, metadata)?;
            let flag = |b: bool| f64::from(u8::from(b));
            Ok(Score::new(
                v.partial,
                [("correct", flag(v.correct)), ("strict", flag(v.strict)), ("partial", v.partial)],
            ))
        };
        pictures.iter().zip(subjects).map(one).collect()
    }
}
