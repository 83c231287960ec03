//! GenEval's `correct` against the published evaluator, on the detections of `geneval/make_answers.py`.

use opdflow_rewards::detector::{Detector, Object};
use opdflow_rewards::geneval::{Metadata, Tag};
use opdflow_rewards::{Geneval, Image, Reward, RewardError, Subject};

/// Class, box, confidence, colour.
type Row = (String, f64, f64, f64, f64, f64, String);

/// A detector that has found what stands in a table.
struct Table(Vec<Row>);

impl Detector for Table {
    fn name(&self) -> &str {
        "table"
    }

    fn knows(&self, _class: &str) -> bool {
        true
    }

    fn detect(&self, images: &[Image]) -> Result<Vec<Vec<Object>>, RewardError> {
        let object = |(class, x0, y0, x1, y1, confidence, _): &Row| Object {
            class: class.clone(),
            bounds: [*x0, *y0, *x1, *y1],
            confidence: *confidence,
            mask: None,
        };
        Ok(vec![self.0.iter().map(object).collect(); images.len()])
    }

    fn colours(&self, _image: &Image, objects: &[&Object]) -> Result<Vec<Option<String>>, RewardError> {
        let row = |object: &&Object| self.0.iter().find(|r| r.0 == object.class && r.5 == object.confidence);
        Ok(objects.iter().map(|object| row(object).map(|r| r.6.clone())).collect())
    }
}

#[test]
fn every_answer_is_the_published_evaluators() {
    let mut met = std::collections::BTreeMap::new();
    let mut wrong = Vec::new();
    let lines: Vec<&str> = include_str!("geneval/answers.jsonl").lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let (metadata, found, correct): (Metadata, Vec<Row>, bool) = serde_json::from_str(line).unwrap();
        let image = Image::new(1, 1, vec![0; 3]).unwrap();
        let subject = Subject { geneval: Some(&metadata), ..Subject::default() };
        let scores = Geneval::new(Table(found)).score(&[image], &[subject]).unwrap();
        if (scores[0].parts["correct"] == 1.0) != correct {
            wrong.push((i + 1, correct));
        }
        met.entry(metadata.tag).or_insert([0, 0])[usize::from(correct)] += 1;
    }
    println!("{} answers, by task [wrong, right]: {met:?}", lines.len());
    assert!(wrong.is_empty(), "lines and the published answers: {wrong:?}");
    // The table tries both answers for every task.
    assert!(Tag::ALL.iter().all(|tag| met[tag].iter().all(|n| *n >= 25)), "{met:?}");
}
