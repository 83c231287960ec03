//! A run as MLflow's file store: an experiment of the recipe's name, in it a run of ours, and below that one each stage that has
//! something to show.
//!
//! The layout is that of `mlflow/store/tracking/file_store.py` (3.17.2), which calls it a backend in maintenance mode and reads it where
//! `MLFLOW_ALLOW_FILE_STORE=true`:
//!
//! ```text
//! EXPERIMENT/meta.yaml
//! EXPERIMENT/RUN/meta.yaml
//! EXPERIMENT/RUN/metrics/NAME      a line `MILLISECONDS VALUE STEP` each
//! EXPERIMENT/RUN/params/NAME       the value
//! EXPERIMENT/RUN/tags/NAME         the value
//! EXPERIMENT/RUN/artifacts/
//! .trash/
//! ```

use super::course::Point;
use super::names;
use super::news::{News, Story};
use super::result::Picture;
use crate::report::artefacts::Score;
use crate::report::{Standing, Summary};
use crate::runlog::Line;
use anyhow::{Context as _, Result};
use opdflow_api::cache::Digest;
use opdflow_io::markdown::escaped;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Longer values of parameters are cut: MLflow refuses them where it writes itself (`MAX_PARAM_VAL_LENGTH`).
const MOST_TEXT: usize = 6000;
/// A run that goes on, in MLflow's numbers.
const RUNNING: u8 = 1;
/// A run that came to its end.
const FINISHED: u8 = 3;
/// A run that failed.
const FAILED: u8 = 4;
/// A run that was stopped.
const KILLED: u8 = 5;

/// Of what a run's files say beside its events.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The run's name.
    pub run: &'a str,
    /// Whether its process still works.
    pub alive: bool,
    /// Where the files will lie in the end: MLflow looks for artifacts by a full path. Without one they are looked for below the folder
    /// in which MLflow is started.
    pub home: Option<&'a Path>,
}

/// Writes what a run log tells to the folder `to`, which is not there yet. What had to be cut.
///
/// # Errors
/// It cannot be written to.
pub fn write(story: &mut Story, lines: &[Line], facts: Facts<'_>, to: &Path) -> Result<Vec<String>> {
    let summary = Summary::of(lines);
    let mut sheets: BTreeMap<String, Sheet> = BTreeMap::new();
    for news in lines.iter().flat_map(|line| story.take(line)) {
        Sheet::take(&mut sheets, news);
    }
    let experiment = Experiment::new(&summary.started.recipe, facts.home, to);
    let began = millis(summary.began);
    experiment.write(began)?;
    // MLflow would make this folder itself, and what it makes there is no more ours to replace.
    put(&to.join(".trash/README"), "Here MLflow keeps what is deleted.\n")?;
    let parent = run_id(facts.run, None);
    let mut whole = Sheet { began: Some(summary.began), ..Sheet::default() };
    (whole.status, whole.ended) = match summary.ended {
        Some((ok, _)) => (if ok { FINISHED } else { FAILED }, Some(summary.last)),
        None if facts.alive => (RUNNING, None),
        None => (KILLED, Some(summary.last)),
    };
    whole.params.insert("seed".into(), summary.started.seed.into());
    whole.tags.insert("opdflow.version".into(), summary.started.version.clone());
    experiment.run(&parent, facts.run, &whole)?;
    let mut cut = Vec::new();
    // In the order of the plan, and after it what a log without a beginning tells of.
    let place = |name: &String| summary.stages.iter().position(|s| s.name == *name).unwrap_or(usize::MAX);
    let mut names: Vec<String> = sheets.keys().cloned().collect();
    names.sort_by_key(place);
    for name in &names {
        let Some(sheet) = sheets.get_mut(name) else { continue };
        let stage = summary.started.stages.iter().find(|s| s.name == *name);
        if let Some(stage) = stage {
            sheet.tags.insert("opdflow.kind".into(), stage.kind.clone());
        }
        if let Some(key) = summary.stage(name).and_then(|s| s.key) {
            sheet.tags.insert("opdflow.key".into(), key.to_string());
        }
        sheet.tags.insert("mlflow.parentRunId".into(), parent.clone());
        if sheet.status == 0 {
            sheet.status = if facts.alive { RUNNING } else { KILLED };
        }
        for (param, value) in &mut sheet.params {
            if let Value::String(text) = value
                && text.chars().count() > MOST_TEXT
            {
                *text = text.chars().take(MOST_TEXT).collect();
                cut.push(format!("`{name}`: the parameter `{param}` is cut at {MOST_TEXT} characters"));
            }
        }
        experiment.run(&run_id(facts.run, Some(name)), name, sheet)?;
    }
    Ok(cut)
}

/// A run of MLflow's.
#[derive(Default)]
struct Sheet {
    params: BTreeMap<String, Value>,
    tags: BTreeMap<String, String>,
    points: Vec<Point>,
    scores: Vec<(Option<String>, f64, Vec<Score>)>,
    pictures: Vec<Picture>,
    began: Option<f64>,
    ended: Option<f64>,
    status: u8,
}

impl Sheet {
    fn take(sheets: &mut BTreeMap<String, Self>, news: News) {
        match news {
            News::Session { stage, at, params } => {
                let sheet = sheets.entry(stage).or_default();
                (sheet.params, sheet.began) = (params, Some(at));
            }
            News::Again { stage, keep, .. } => {
                let points = &mut sheets.entry(stage).or_default().points;
                points.retain(|p| keep.is_some_and(|keep| p.step <= keep));
            }
            News::Point { stage, point } => sheets.entry(stage).or_default().points.push(point),
            News::Pictures { stage, at, pictures } => sheets.entry(stage).or_default().left(at).pictures = pictures,
            News::Scores { stage, at, by, scores } => {
                sheets.entry(stage).or_default().left(at).scores.push((by, at, scores));
            }
            News::End { stage, at, standing } => {
                let sheet = sheets.entry(stage).or_default();
                sheet.ended = Some(at);
                sheet.status = match standing {
                    Standing::Failed => FAILED,
                    Standing::Stopped => KILLED,
                    _ => FINISHED,
                };
            }
        }
    }

    /// A stage without curves that left something has come to its end by then.
    fn left(&mut self, at: f64) -> &mut Self {
        if self.began.is_none() {
            (self.began, self.ended, self.status) = (Some(at), Some(at), FINISHED);
        }
        self
    }

    /// The lines of each metric by its name.
    fn metrics(&self) -> BTreeMap<String, String> {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut line = |name: String, at: f64, value: f64, step: u64| {
            let step = i64::try_from(step).unwrap_or(i64::MAX);
            // A number as Python reads it: `NaN`, `inf`.
            let _ = writeln!(found.entry(name).or_default(), "{} {value} {step}", millis(at));
        };
        let mut groups = Vec::new();
        for (by, at, scores) in &self.scores {
            let of = by.as_ref().map_or_else(String::new, |by| format!(" of {by}"));
            for (group, value) in [("scores", (|s| s.mean) as fn(&Score) -> f64), ("standard_error", |s| s.error)] {
                let group = names::mlflow(&format!("{group}{of}"));
                for score in scores.iter().filter(|s| value(s).is_finite()) {
                    let name = format!("{group}/{}/{}", names::mlflow(&score.set), names::mlflow(&score.column));
                    line(name, *at, value(score), 0);
                }
                groups.push(group);
            }
        }
        for Point { step, name, value, at } in &self.points {
            let own = names::mlflow(name);
            // A folder is called so; no other name ends in this.
            let own = if groups.contains(&own) { format!("{own}:") } else { own };
            line(own, *at, *value, *step);
        }
        found
    }
}

struct Experiment<'a> {
    id: String,
    name: &'a str,
    home: Option<&'a Path>,
    root: PathBuf,
}

impl<'a> Experiment<'a> {
    fn new(recipe: &'a str, home: Option<&'a Path>, to: &Path) -> Self {
        // As MLflow's own, a whole number of at most 18 digits; the same for all runs of a recipe.
        let hash = Digest::of(format!("experiment {recipe}").as_bytes()).to_string();
        let number = u64::from_str_radix(&hash[..15], 16).unwrap_or_default() % 1_000_000_000_000_000_000;
        let name = if recipe.is_empty() { "opdflow" } else { recipe };
        let id = format!("{number:018}");
        Self { root: to.join(&id), id, name, home }
    }

    fn uri(&self, below: &str) -> String {
        match self.home {
            Some(home) => format!("file://{}/{}{below}", percent(&home.to_string_lossy()), self.id),
            None => format!("{}{below}", self.id),
        }
    }

    fn write(&self, at: i64) -> Result<()> {
        let meta = json!({
            "artifact_location": self.uri(""), "creation_time": at, "experiment_id": self.id, "last_update_time": at,
            "lifecycle_stage": "active", "name": self.name,
        });
        put(&self.root.join("meta.yaml"), &serde_yaml::to_string(&meta)?)
    }

    fn run(&self, id: &str, name: &str, sheet: &Sheet) -> Result<()> {
        let folder = self.root.join(id);
        let began = sheet.began.map_or(0, millis);
        let meta = json!({
            "artifact_uri": self.uri(&format!("/{id}/artifacts")), "deleted_time": null, "end_time": sheet.ended.map(millis),
            "entry_point_name": "", "experiment_id": self.id, "lifecycle_stage": "active", "run_id": id, "run_name": name,
            "run_uuid": id, "source_name": "", "source_type": 4, "source_version": "", "start_time": began,
            "status": sheet.status, "tags": [], "user_id": "",
        });
        put(&folder.join("meta.yaml"), &serde_yaml::to_string(&meta)?)?;
        for (name, lines) in sheet.metrics() {
            put(&folder.join("metrics").join(name), &lines)?;
        }
        for (name, value) in &sheet.params {
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            put(&folder.join("params").join(names::mlflow(name)), &text)?;
        }
        let mut tags = sheet.tags.clone();
        tags.insert("mlflow.runName".into(), name.to_owned());
        let note = note(&sheet.pictures);
        if !note.is_empty() {
            tags.insert("mlflow.note.content".into(), note);
        }
        for (name, value) in &tags {
            put(&folder.join("tags").join(name), value)?;
        }
        for picture in &sheet.pictures {
            let set = folder.join("artifacts/images").join(names::folder(&picture.set));
            fs::create_dir_all(&set).with_context(|| format!("cannot create {}", set.display()))?;
            let file = set.join(format!("{:03}.png", picture.number));
            fs::write(&file, &picture.png).with_context(|| format!("cannot write {}", file.display()))?;
        }
        // MLflow takes no folder for a run that lacks one of these, and here no folder is empty.
        let params: Map<String, Value> = sheet.params.clone().into_iter().collect();
        put(&folder.join("artifacts/params.json"), &format!("{:#}\n", Value::Object(params)))?;
        let seconds = sheet.ended.zip(sheet.began).map_or(0.0, |(ended, began)| (ended - began).max(0.0));
        put(&folder.join("metrics/opdflow.seconds"), &format!("{began} {seconds:.3} 0\n"))?;
        put(&folder.join("params/opdflow.version"), env!("CARGO_PKG_VERSION"))
    }
}

/// The prompts of the images and their scores, as Markdown.
fn note(pictures: &[Picture]) -> String {
    let mut text = String::new();
    for Picture { set, number, prompt, scores, .. } in pictures {
        let _ = write!(text, "- images/{}/{number:03}.png", escaped(set));
        if let Some(prompt) = prompt {
            let _ = write!(text, ": {}", escaped(prompt));
        }
        for (name, value) in scores {
            let _ = write!(text, ", {} {value:.3}", escaped(name));
        }
        text.push('\n');
    }
    text
}

fn put(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// 32 hexadecimal digits, as MLflow's own; the same whenever a run is written.
fn run_id(run: &str, stage: Option<&str>) -> String {
    let what = stage.map_or_else(|| json!([run]), |stage| json!([run, stage]));
    Digest::of(what.to_string().as_bytes()).to_string()[..32].to_owned()
}

#[expect(clippy::cast_possible_truncation, reason = "a time of this age of the world")]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round().max(0.0) as i64
}

/// A path in an address.
fn percent(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_no_file_where_a_folder_must_be() {
        let score = Score { set: "a/b".into(), column: "ocr".into(), mean: 0.5, error: f64::NAN, n: 4 };
        let point = |name: &str, value: f64| Point { step: 3, name: name.into(), value, at: 1.5 };
        let sheet = Sheet {
            points: vec![point("scores", 1.0), point("x/y", f64::NAN), point("x/y", f64::INFINITY)],
            scores: vec![(None, 2.0, vec![score.clone()]), (Some("e[a=1]".into()), 2.0, vec![score])],
            ..Sheet::default()
        };
        let found = sheet.metrics();
        assert_eq!(
            found.iter().map(|(name, lines)| (name.as_str(), lines.as_str())).collect::<Vec<_>>(),
            [
                ("scores of e:5Ba:3D1:5D/a:2Fb/ocr", "2000 0.5 0\n"),
                ("scores/a:2Fb/ocr", "2000 0.5 0\n"),
                ("scores:", "1500 1 3\n"),
                ("x:2Fy", "1500 NaN 3\n1500 inf 3\n"),
            ]
        );
    }
}
