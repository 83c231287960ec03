//! What results hold that a view of a run shows: metrics, scores, images and their prompts. A view shows all else where something cannot
//! be read, and says what it lacks.

use opdflow_api::cache::{ActionRecord, Digest, ObjectKind, Output, Store, TreeEntry};
use serde_json::Value;
use std::collections::BTreeMap;

/// The result of a stage, or else a line in `lacking`.
pub fn record(store: &Store, stage: &str, key: &Digest, lacking: &mut Vec<String>) -> Option<ActionRecord> {
    match store.action(key) {
        Ok(Some(record)) => return Some(record),
        Ok(None) => lacking.push(format!("`{stage}`: its result is not in the store any more")),
        Err(error) => lacking.push(format!("`{stage}`: {error}")),
    }
    None
}

/// The bytes of an output, or else a line in `lacking`; nothing of a folder.
pub fn bytes(
    store: &Store,
    (stage, port): (&str, &str),
    output: &Output,
    lacking: &mut Vec<String>,
) -> Option<Vec<u8>> {
    let read = (output.object.kind == ObjectKind::Blob).then(|| store.read(&output.object.digest))?;
    read.map_err(|error| lacking.push(format!("`{stage}.{port}`: {error}"))).ok()
}

/// One number of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The step.
    pub step: u64,
    /// Its name, such as `reward`.
    pub name: String,
    /// Its value; NaN where it was not finite.
    pub value: f64,
}

/// The metrics of a stage as it left them, a JSON object a line, in their order.
#[must_use]
pub fn metrics(bytes: &[u8]) -> Vec<Sample> {
    let sample = |line: &[u8]| {
        let line = serde_json::from_slice::<Value>(line).ok()?;
        let value = match line.get("value")? {
            Value::Null => f64::NAN,
            value => value.as_f64()?,
        };
        Some(Sample { step: line["step"].as_u64()?, name: line["name"].as_str()?.to_owned(), value })
    };
    bytes.split(|b| *b == b'\n').filter_map(sample).collect()
}

/// The scores of each image by its set and its number in it: a JSON object a line, in order. Of each reward its own number,
/// not all its measures.
#[must_use]
pub fn scores_of_images(samples: &[u8]) -> BTreeMap<(String, usize), BTreeMap<String, f64>> {
    let (mut found, mut next) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
    for line in samples.split(|b| *b == b'\n') {
        let Ok(value) = serde_json::from_slice::<Value>(line) else { continue };
        let Some(set) = value["set"].as_str() else { continue };
        let number = next.entry(set.to_owned()).or_default();
        let values = value["scores"].as_object().into_iter().flatten();
        let own = values.filter(|(name, _)| !name.contains('.') || name.starts_with("held_out."));
        let own = own.filter_map(|(name, v)| Some((name.clone(), v.as_f64()?))).collect();
        found.insert((set.to_owned(), *number), own);
        *number += 1;
    }
    found
}

/// The mean of one number over the prompts of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The set of prompts.
    pub set: String,
    /// The reward, or one of its measures: `geneval.strict`.
    pub column: String,
    /// The mean.
    pub mean: f64,
    /// Its standard error; not a number of one prompt.
    pub error: f64,
    /// Over so many prompts.
    pub n: u64,
}

/// The scores that an evaluation left, by set and column.
#[must_use]
pub fn scores(bytes: &[u8]) -> Vec<Score> {
    scores_in(&serde_json::from_slice::<Value>(bytes).unwrap_or_default())
}

/// The scores of a training's candidates by its step.
#[must_use]
pub fn curve(bytes: &[u8]) -> Vec<(u64, Vec<Score>)> {
    let value = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let points = value["points"].as_array().into_iter().flatten();
    points.filter_map(|point| Some((point["step"].as_u64()?, scores_in(&point["scores"])))).collect()
}

fn scores_in(value: &Value) -> Vec<Score> {
    let sets = value["sets"].as_object().into_iter().flatten();
    let columns =
        sets.flat_map(|(set, columns)| columns.as_object().into_iter().flatten().map(move |(c, v)| (set, c, v)));
    let score = |(set, column, value): (&String, &String, &Value)| {
        let n = value["n"].as_u64().unwrap_or_default();
        let error = value["error"].as_f64().filter(|_| n > 1).unwrap_or(f64::NAN);
        Some(Score { set: set.clone(), column: column.clone(), mean: value["mean"].as_f64()?, error, n })
    };
    columns.filter_map(score).collect()
}

/// An image in a folder of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept<'a> {
    /// The set of prompts.
    pub set: &'a str,
    /// Which prompt of the set, from 0.
    pub number: usize,
    /// The PNG.
    pub png: &'a Digest,
    /// The prompt, if it lies beside the image.
    pub prompt: Option<&'a Digest>,
}

/// The images of a folder `set/000.png`, with the prompt beside each as `000.txt`, and the paths of those whose numbers are
/// beyond all images: they are counted from 0, and a larger number is no row of ours.
#[must_use]
pub fn images(entries: &[TreeEntry]) -> (Vec<Kept<'_>>, Vec<&str>) {
    let texts: BTreeMap<&str, &Digest> = entries.iter().map(|e| (e.path.as_str(), &e.digest)).collect();
    let (mut kept, mut strange) = (Vec::new(), Vec::new());
    for entry in entries {
        let Some((stem, (set, file))) = entry.path.strip_suffix(".png").and_then(|s| Some((s, s.rsplit_once('/')?)))
        else {
            continue;
        };
        let Ok(number) = file.parse::<usize>() else { continue };
        if number >= entries.len() {
            strange.push(entry.path.as_str());
            continue;
        }
        let prompt = texts.get(format!("{stem}.txt").as_str()).copied();
        kept.push(Kept { set, number, png: &entry.digest, prompt });
    }
    (kept, strange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_keep_their_order_and_what_is_not_finite() {
        let text = b"{\"step\":2,\"name\":\"loss\",\"value\":0.5}\nrubbish\n{\"step\":3,\"name\":\"loss\",\"value\":null}\n{\"step\":4,\"name\":\"loss\",\"value\":\"x\"}\n{\"step\":5,\"na";
        let found = metrics(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].step, found[0].name.as_str(), found[0].value), (2, "loss", 0.5));
        assert!(found[1].step == 3 && found[1].value.is_nan());
    }

    #[test]
    fn scores_are_read_by_set_and_column() {
        let found = scores(
            b"{\"sets\":{\"ocr\":{\"ocr\":{\"mean\":0.5,\"error\":0.1,\"n\":4},\"ocr.exact\":{\"mean\":\"?\"}}}}",
        );
        assert_eq!(found, [Score { set: "ocr".into(), column: "ocr".into(), mean: 0.5, error: 0.1, n: 4 }]);
        assert!(scores(b"[]").is_empty() && scores(b"{\"sets\":3}").is_empty());
        let points = curve(
            b"{\"points\":[{\"step\":20,\"scores\":{\"sets\":{\"ocr\":{\"ocr\":{\"mean\":0.5,\"error\":0.1,\"n\":4}}}}},{\"scores\":{}},{\"step\":40}]}",
        );
        assert_eq!(points, [(20, found), (40, Vec::new())]);
        assert!(curve(b"x").is_empty());
    }

    #[test]
    fn an_image_has_the_prompt_beside_it() {
        let entry = |path: &str| TreeEntry { path: path.into(), digest: Digest::of(path.as_bytes()), size: 1 };
        let entries = ["a/000.png", "a/000.txt", "a/b/001.png", "a/9.png", "x.png", "a/y.png"].map(entry);
        let (kept, strange) = images(&entries);
        let seen: Vec<_> = kept.iter().map(|k| (k.set, k.number, k.prompt.is_some())).collect();
        assert_eq!(seen, [("a", 0, true), ("a/b", 1, false)]);
        assert_eq!(strange, ["a/9.png"]);
    }
}
