//! A run as TensorBoard's event files: a folder of each stage that has something to show.
//!
//! Scalars are the stage's metrics, and `scores/SET/COLUMN` what an evaluation gave, with `standard_error/SET/COLUMN`. A value has 32 bits there: that is all that
//! TensorBoard shows of one; the run log has all 64. A stage with metrics is a session of the hparams plugin, its parameters flat. The
//! plugin's `Experiment` is not written: TensorBoard would take that of one run for all below its `--logdir`, and finds parameters and
//! metrics by itself where there is none.

use super::names;
use super::news::{News, Story};
use super::result::Picture;
use super::wire::{
    Event, HParams, Held, Metadata, Param, ParamKind, Plugin, Session, SessionEnd, SessionLog, SessionStart, Summary,
    Tensor, Value, What, record,
};
use crate::report::Standing;
use crate::report::artefacts::Score;
use crate::runlog::Line;
use anyhow::{Context as _, Result};
use opdflow_io::markdown::escaped;
use prost::Message as _;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Lines of a log between two writings.
const AT_ONCE: usize = 1000;

/// Writes what a run log tells to `to`.
///
/// # Errors
/// It cannot be written to.
pub fn write(story: &mut Story, lines: &[Line], to: &Path) -> Result<()> {
    let mut board = Board::new(to);
    for some in lines.chunks(AT_ONCE) {
        for line in some {
            story.take(line).into_iter().for_each(|news| board.take(news));
        }
        board.flush()?;
    }
    Ok(())
}

/// The event files of a run.
pub(super) struct Board {
    root: PathBuf,
    files: BTreeMap<String, Events>,
}

/// The event file of a stage. It is open only while it is written to: a run may have a thousand stages.
struct Events {
    path: PathBuf,
    waiting: Vec<u8>,
}

impl Board {
    /// Below this folder.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), files: BTreeMap::new() }
    }

    /// Takes in what is to be written next.
    pub(super) fn take(&mut self, news: News) {
        match news {
            News::Session { stage, at, params } => {
                let hparams = params.into_iter().filter_map(|(name, value)| Some((name, param(&value)?))).collect();
                let start = Session::Start(SessionStart { hparams, start_time: at });
                self.summary(&stage, at, 0, vec![hparams_value("_hparams_/session_start_info", start)]);
            }
            News::Again { stage, at, keep } => {
                let step = keep.map_or(0, |keep| integer(keep).saturating_add(1));
                let what = Some(What::SessionLog(SessionLog { status: SessionLog::START }));
                self.event(&stage, &Event { wall_time: at, step, what });
            }
            News::Point { stage, point } => {
                self.summary(&stage, point.at, integer(point.step), vec![scalar(point.name, point.value)]);
            }
            News::Scores { stage, at, by, scores } => {
                let values = scores.iter().flat_map(|s| score(s, by.as_deref())).collect();
                self.summary(&stage, at, 0, values);
            }
            News::Pictures { stage, at, pictures } => {
                for picture in pictures {
                    self.summary(&stage, at, 0, vec![image(picture)]);
                }
            }
            News::End { stage, at, standing } => {
                let status = if standing == Standing::Failed { 2 } else { i32::from(standing != Standing::Stopped) };
                let end = Session::End(SessionEnd { status, end_time: at });
                self.summary(&stage, at, 0, vec![hparams_value("_hparams_/session_end_info", end)]);
            }
        }
    }

    fn summary(&mut self, stage: &str, at: f64, step: i64, value: Vec<Value>) {
        self.event(stage, &Event { wall_time: at, step, what: Some(What::Summary(Summary { value })) });
    }

    fn event(&mut self, stage: &str, event: &Event) {
        let begin = || {
            // TensorBoard reads the files of a folder in the order of their names, which begin with their time.
            let name = format!("events.out.tfevents.{:010}.opdflow", event.wall_time.max(0.0) as u64);
            let mut waiting = Vec::new();
            let version = Some(What::FileVersion("brain.Event:2".into()));
            record(&Event { wall_time: event.wall_time, step: 0, what: version }, &mut waiting);
            Events { path: self.root.join(names::folder(stage)).join(name), waiting }
        };
        let file = self.files.entry(stage.to_owned()).or_insert_with(begin);
        record(event, &mut file.waiting);
    }

    /// Writes all that was taken in.
    pub(super) fn flush(&mut self) -> Result<()> {
        for file in self.files.values_mut().filter(|file| !file.waiting.is_empty()) {
            let write = || -> std::io::Result<()> {
                if let Some(folder) = file.path.parent() {
                    fs::create_dir_all(folder)?;
                }
                let mut out = File::options().create(true).append(true).open(&file.path)?;
                out.write_all(&file.waiting)
            };
            write().with_context(|| format!("cannot write {}", file.path.display()))?;
            file.waiting.clear();
        }
        Ok(())
    }
}

/// Steps beyond what TensorBoard counts are its last one.
fn integer(step: u64) -> i64 {
    i64::try_from(step).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "a scalar of TensorBoard has 32 bits")]
fn scalar(tag: String, value: f64) -> Value {
    Value { tag, held: Some(Held::Scalar(value as f32)), metadata: None }
}

/// A mean and its standard error, if it has one.
fn score(score: &Score, by: Option<&str>) -> impl Iterator<Item = Value> {
    let of = by.map_or_else(String::new, |by| format!(" of {by}"));
    let below = format!("{}/{}", score.set, score.column);
    [("scores", score.mean), ("standard_error", score.error)]
        .into_iter()
        .filter(|(_, value)| value.is_finite())
        .map(move |(head, value)| scalar(format!("{head}{of}/{below}"), value))
}

/// As the images plugin has it: width and height as texts, then the file. The other form that there is, of TensorFlow 1, loses its
/// description on the way to TensorBoard's page.
fn image(picture: Picture) -> Value {
    let Picture { set, number, prompt, scores, png, width, height } = picture;
    let mut description = prompt.as_deref().map(escaped).unwrap_or_default();
    for (name, value) in &scores {
        let _ = write!(description, "\n\n{}: {value:.4}", escaped(name));
    }
    let held = Tensor::of(vec![width.to_string().into(), height.to_string().into(), png]);
    let plugin = Some(Plugin { name: "images".into(), content: Vec::new() });
    let metadata = Some(Metadata { plugin, description: description.trim_start().to_owned(), class: 3 });
    Value { tag: format!("images/{set}/{number:03}"), held: Some(Held::Tensor(held)), metadata }
}

fn param(value: &serde_json::Value) -> Option<Param> {
    let kind = match value {
        serde_json::Value::Bool(value) => ParamKind::Bool(*value),
        serde_json::Value::Number(value) => ParamKind::Number(value.as_f64()?),
        serde_json::Value::String(text) => ParamKind::Text(text.clone()),
        _ => return None,
    };
    Some(Param { kind: Some(kind) })
}

fn hparams_value(tag: &str, session: Session) -> Value {
    let content = HParams { session: Some(session) }.encode_to_vec();
    let plugin = Some(Plugin { name: "hparams".into(), content });
    let metadata = Some(Metadata { plugin, ..Metadata::default() });
    Value { tag: tag.to_owned(), held: Some(Held::Tensor(Tensor::empty())), metadata }
}
