//! GenEval (Ghosh et al. 2023): does the image show the objects, counts, colours and places that the prompt names?

mod judge;

use crate::detector::{Detector, Object};
use crate::reward::check;
use crate::{Image, Reward, RewardError, Score, Subject};

pub use crate::metadata::{Exclude, Include, Metadata, Relation, Tag};
pub use judge::{Detection, Verdict, fault, judge};

/// Least confidence of an object that counts: it must be above.
pub const CONFIDENT: f64 = 0.3;
/// The same for counting prompts.
const CONFIDENT_COUNTING: f64 = 0.9;
/// Most objects of one class.
const MOST: usize = 16;

/// Known oddities of the published training reward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks {
    /// The published reward adds a term of 1 after every position check, passed or not, so that a failed one earns a half.
    /// Off: a failed check adds only its 0.
    pub position_always_adds_one: bool,
}

/// GenEval as a reward. The value is the mean of partial marks, 1 at best and below 0 for gross miscounts; parts are `correct`
/// (GenEval's own rule), `strict` (exact counts), `partial` (the value again) and `released` (partial marks with the oddities of
/// the released training code).
pub struct Geneval {
    detector: Box<dyn Detector>,
}

impl Geneval {
    /// GenEval by some detector.
    pub fn new(detector: impl Detector + 'static) -> Geneval {
        Geneval { detector: Box::new(detector) }
    }

    /// The verdict on an image in which the detector found these objects, and the partial marks of the released code.
    fn verdict(&self, image: &Image, seen: Vec<Object>, metadata: &Metadata) -> Result<(Verdict, f64), RewardError> {
        let threshold = if metadata.tag == Tag::Counting { CONFIDENT_COUNTING } else { CONFIDENT };
        // Confidences of the published detector have 32 bits, and its threshold is rounded to as many.
        let sure = |o: &Object| o.confidence as f32 > threshold as f32;
        let mut objects: Vec<Object> = seen.into_iter().filter(sure).collect();
        // The best come first; ties by place, so that the order does not hang on the detector's.
        objects.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then_with(|| a.bounds[0].total_cmp(&b.bounds[0])));
        let mut kept: Vec<Object> = Vec::new();
        for object in objects {
            if kept.iter().filter(|k| k.class == object.class).count() < MOST {
                kept.push(object);
            }
        }
        // Colours may cost a pass through a network each; only those that a clause names are told.
        let asked = |o: &&Object| metadata.include.iter().any(|i| i.color.is_some() && i.class == o.class);
        let coloured: Vec<&Object> = kept.iter().filter(asked).collect();
        let colours = if coloured.is_empty() { Vec::new() } else { self.detector.colours(image, &coloured)? };
        let mut colours = colours.into_iter();
        let told = |object: Object| {
            let colour = if asked(&&object) { colours.next().flatten() } else { None };
            Detection { class: object.class, bounds: object.bounds, colour }
        };
        let found: Vec<Detection> = kept.into_iter().map(told).collect();
        let released = judge(&found, metadata, Quirks { position_always_adds_one: true })?;
        Ok((judge(&found, metadata, Quirks::default())?, released.partial))
    }
}

impl Default for Geneval {
    fn default() -> Geneval {
        Geneval::new(crate::detector::Shapes)
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
        if let Some(why) = fault(metadata) {
            return Some(RewardError::Metadata { prompt: subject.text.to_owned(), why: why.to_owned() });
        }
        let unknown = metadata.include.iter().find(|i| !self.detector.knows(&i.class))?;
        Some(RewardError::Class {
            prompt: subject.text.to_owned(),
            class: unknown.class.clone(),
            detector: self.detector.name().to_owned(),
        })
    }

    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        check(images, subjects)?;
        let asked = subjects.iter().map(|subject| {
            subject.geneval.ok_or_else(|| RewardError::Missing {
                reward: "geneval".to_owned(),
                text: subject.text.to_owned(),
                needs: "GenEval metadata",
            })
        });
        let asked: Vec<&Metadata> = asked.collect::<Result<_, _>>()?;
        let found = self.detector.detect(images)?;
        let one = |((image, seen), metadata): ((&Image, Vec<Object>), &Metadata)| {
            let (v, released) = self.verdict(image, seen, metadata)?;
            let flag = |b: bool| f64::from(u8::from(b));
            Ok(Score::new(
                v.partial,
                [
                    ("correct", flag(v.correct)),
                    ("strict", flag(v.strict)),
                    ("partial", v.partial),
                    ("released", released),
                ],
            ))
        };
        images.iter().zip(found).zip(asked).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A cup and a dog; it notes whose colour it is asked for.
    struct Notes(&'static Mutex<Vec<String>>);

    impl Detector for Notes {
        fn name(&self) -> &str {
            "notes"
        }

        fn knows(&self, _: &str) -> bool {
            true
        }

        fn detect(&self, images: &[Image]) -> Result<Vec<Vec<Object>>, RewardError> {
            let object =
                |class: &str, confidence, bounds| Object { class: class.to_owned(), bounds, confidence, mask: None };
            let objects = vec![
                object("cup", 0.8, [0.0, 0.0, 2.0, 2.0]),
                object("dog", CONFIDENT, [4.0, 0.0, 8.0, 4.0]),
                object("dog", 0.5, [4.0, 0.0, 8.0, 4.0]),
            ];
            Ok(vec![objects; images.len()])
        }

        fn colours(&self, _: &Image, objects: &[&Object]) -> Result<Vec<Option<String>>, RewardError> {
            self.0.lock().unwrap().extend(objects.iter().map(|object| object.class.clone()));
            Ok(vec![Some("red".to_owned()); objects.len()])
        }
    }

    #[test]
    fn colours_are_asked_for_where_a_clause_names_one() {
        static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let metadata: Metadata = serde_json::from_str(
            r#"{"tag":"color_attr","include":[{"class":"cup","count":1},{"class":"dog","count":1,"color":"red"}],"exclude":[]}"#,
        )
        .unwrap();
        let subject = Subject { text: "a cup and a red dog", geneval: Some(&metadata), ..Subject::default() };
        let image = Image::new(8, 4, vec![0; 96]).unwrap();
        let scores = Geneval::new(Notes(&ASKED)).score(&[image], &[subject]).unwrap();
        assert_eq!((scores[0].value, scores[0].parts["correct"]), (1.0, 1.0));
        assert_eq!(*ASKED.lock().unwrap(), ["dog"]);
    }
}
