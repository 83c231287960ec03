//! The images that a training left on its way, out of the folder of its run.

use super::content::{ImageRow, ImageSet, Options, ScoredImage};
use opdflow_io::file;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The name of what an image is worth in training.
const REWARD: &str = "reward";
/// Longest file of lines that is read.
const LONGEST: u64 = 16 << 20;
/// More prompts than a training can leave: a larger number is none of ours.
const MOST_PROMPTS: u64 = 64;

/// What stands in a folder of samples, a step in each column; and how many images found no room. Nothing if there is none yet.
pub(super) fn read(
    folder: &Path,
    stage: &str,
    room: &mut usize,
    options: Options,
) -> io::Result<(Option<ImageSet>, usize)> {
    let mut set = ImageSet { name: stage.to_owned(), ..ImageSet::default() };
    let path = folder.join("samples.jsonl");
    if !path.exists() {
        return Ok((None, 0));
    }
    let text = String::from_utf8_lossy(&file::read(&path, LONGEST)?).into_owned();
    // An attempt that was lost may have told a step already: the last word counts.
    let mut lines: BTreeMap<(u64, u64), Value> = BTreeMap::new();
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let (Some(step), Some(image)) = (line["step"].as_u64(), line["image"].as_u64()) else { continue };
        if image < MOST_PROMPTS {
            lines.insert((step, image), line);
        }
    }
    let mut left_out = 0;
    for ((step, image), line) in lines {
        let Ok(png) = file::read(&folder.join(format!("step-{step:06}/{image:02}.png")), LONGEST) else { continue };
        if png.len() > *room {
            left_out += 1;
            continue;
        }
        *room -= png.len();
        let name = format!("step {step}");
        let column = set.stages.iter().position(|s| *s == name).unwrap_or_else(|| {
            set.stages.push(name);
            set.stages.len() - 1
        });
        let row = usize::try_from(image).unwrap_or(0);
        if set.rows.len() <= row {
            set.rows.resize_with(row + 1, ImageRow::default);
        }
        let row = &mut set.rows[row];
        row.prompt = line["prompt"].as_str().filter(|_| !options.no_prompts).map(ToOwned::to_owned);
        row.images.resize_with(column + 1, || None);
        let number = |(name, value): (&String, &Value)| Some((name.clone(), value.as_f64()?));
        let beside = line["beside"].as_object().into_iter().flatten();
        let mut scores: BTreeMap<String, f64> = beside.chain(terms(&line["parts"])).filter_map(number).collect();
        scores.extend(line["reward"].as_f64().map(|reward| (REWARD.to_owned(), reward)));
        row.images[column] = Some(ScoredImage { png, beside: None, scores });
    }
    Ok((Some(set).filter(|set| !set.stages.is_empty()), left_out))
}

/// The rewards that a sum is of, where it is of several; their own measures lie below them, and are left out.
fn terms(parts: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let all = parts.as_object().into_iter().flatten();
    let within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
    let found: Vec<(&String, &Value)> =
        all.clone().filter(|(name, _)| !all.clone().any(|(other, _)| within(name, other))).collect();
    let several = found.len() > 1;
    found.into_iter().filter(move |_| several)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_sum_its_rewards_are_shown_and_not_their_measures() {
        let names = |parts: Value| terms(&parts).map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let sum = serde_json::json!({"geneval.partial": 1.0, "geneval.partial.correct": 1.0, "geneval.strict": 0.0, "geneval.strict.partial": 1.0});
        assert_eq!(names(sum), ["geneval.partial", "geneval.strict"]);
        assert!(names(serde_json::json!({"ocr": 1.0, "ocr.exact": 0.0})).is_empty() && names(Value::Null).is_empty());
    }

    #[test]
    fn steps_are_columns_and_what_is_cut_short_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut room = 100;
        let mut of =
            |no_prompts| read(dir.path(), "t", &mut room, Options { no_prompts, ..Options::default() }).unwrap();
        assert!(of(false).0.is_none());
        for step in ["step-000000", "step-000010"] {
            std::fs::create_dir(dir.path().join(step)).unwrap();
            std::fs::write(dir.path().join(step).join("00.png"), step).unwrap();
        }
        let line = |step: u64, image: u64, reward: f64| {
            serde_json::json!({"step": step, "image": image, "prompt": "a <b>", "reward": reward}).to_string()
        };
        let text = [
            line(0, 0, 0.1),
            line(10, 0, 0.2),
            line(10, 0, 0.3),
            line(10, 1, 0.4),
            line(10, 9_999_999, 0.4),
            "{\"step\":2".into(),
        ];
        std::fs::write(dir.path().join("samples.jsonl"), text.join("\n")).unwrap();
        let (set, left_out) = of(false);
        let set = set.unwrap();
        assert_eq!(
            (set.stages.as_slice(), set.rows.len(), left_out),
            (["step 0".to_owned(), "step 10".to_owned()].as_slice(), 1, 0)
        );
        assert_eq!(set.rows[0].prompt.as_deref(), Some("a <b>"));
        assert_eq!(set.rows[0].images[1].as_ref().unwrap().scores["reward"], 0.3, "the last word counts");
        assert_eq!(of(true).0.unwrap().rows[0].prompt, None);
        let (none, left_out) = read(dir.path(), "t", &mut 3, Options::default()).unwrap();
        assert!(none.is_none() && left_out == 2);
    }
}
