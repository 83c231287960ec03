//! The events of a run, one by one, as what a tracker wants to hear: points of curves, parameters, scores and images.

use super::course::{Course, Point};
use super::result::{Left, Picture, Source};
use crate::report::Standing;
use crate::report::artefacts::Score;
use crate::runlog::{Line, RunEvent};
use opdflow_api::cache::Digest;
use serde_json::Value;
use std::collections::BTreeMap;

/// Something that a tracker shows. Stages go by their names, times are seconds since 1970.
#[derive(Debug)]
pub enum News {
    /// A stage has curves; comes before its first point.
    Session {
        /// The stage.
        stage: String,
        /// When.
        at: f64,
        /// Its parameters by path.
        params: BTreeMap<String, Value>,
    },
    /// What was told of a stage's steps after this one, or of all its steps, is told again.
    Again {
        /// The stage.
        stage: String,
        /// When.
        at: f64,
        /// The last step that stays.
        keep: Option<u64>,
    },
    /// A point of a curve.
    Point {
        /// The stage.
        stage: String,
        /// The point.
        point: Point,
    },
    /// Images that a stage left.
    Pictures {
        /// The stage.
        stage: String,
        /// When.
        at: f64,
        /// The images.
        pictures: Vec<Picture>,
    },
    /// Scores of what a stage made: its own, if it is an evaluation, or those that an evaluation gave its adapter.
    Scores {
        /// The stage.
        stage: String,
        /// When.
        at: f64,
        /// The evaluation, if it is not the first of this stage.
        by: Option<String>,
        /// The scores.
        scores: Vec<Score>,
    },
    /// A stage with curves has come to its end.
    End {
        /// The stage.
        stage: String,
        /// When.
        at: f64,
        /// How.
        standing: Standing,
    },
}

/// A run as far as it is known.
pub struct Story {
    source: Source,
    stages: BTreeMap<String, Stage>,
    lacking: Vec<String>,
}

#[derive(Default)]
struct Stage {
    needs: Vec<String>,
    key: Option<Digest>,
    course: Course,
    outputs: Vec<(String, Digest)>,
    /// Digests that it read.
    inputs: Vec<Digest>,
    in_session: bool,
    ended: bool,
    judged: bool,
    pictured: bool,
}

impl Story {
    /// Of a run of which nothing was heard yet.
    #[must_use]
    pub fn of(source: Source) -> Self {
        Self { source, stages: BTreeMap::new(), lacking: Vec::new() }
    }

    /// What could not be read, and why.
    #[must_use]
    pub fn lacking(&self) -> &[String] {
        &self.lacking
    }

    /// Whether there was nothing to show so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.stages.values().any(|s| s.in_session || s.judged || s.pictured)
    }

    /// Takes in the next event.
    pub(super) fn take(&mut self, line: &Line) -> Vec<News> {
        let at = line.at;
        match &line.event {
            RunEvent::RunStarted(started) => {
                for stage in &started.stages {
                    self.stages.entry(stage.name.clone()).or_default().needs.clone_from(&stage.needs);
                }
                Vec::new()
            }
            RunEvent::Keyed { stage, key, .. } => {
                self.stage(stage).key = Some(*key);
                Vec::new()
            }
            RunEvent::Begun { stage, step } => {
                let again = self.stage(stage).course.begin(*step);
                let keep = Some(*step).filter(|step| *step > 0);
                if again { vec![News::Again { stage: stage.clone(), at, keep }] } else { Vec::new() }
            }
            RunEvent::Metric { stage, step, name, value } => {
                let value = value.unwrap_or(f64::NAN);
                let mut news = self.session(stage, at, None);
                let point = Point { step: *step, name: name.clone(), value, at };
                self.stage(stage).course.push(point.clone());
                news.push(News::Point { stage: stage.clone(), point });
                news
            }
            RunEvent::Hit { stage, .. } => self.result(stage, at, true),
            RunEvent::Done { stage, found, .. } => self.result(stage, at, *found),
            RunEvent::Failed { stage, .. } => self.end(stage, at, Standing::Failed),
            RunEvent::Stopped { stage, .. } => self.end(stage, at, Standing::Stopped),
            _ => Vec::new(),
        }
    }

    fn stage(&mut self, name: &str) -> &mut Stage {
        self.stages.entry(name.to_owned()).or_default()
    }

    fn session(&mut self, stage: &str, at: f64, manifest: Option<&Value>) -> Vec<News> {
        if std::mem::replace(&mut self.stage(stage).in_session, true) {
            return Vec::new();
        }
        let begun = if manifest.is_none() { self.source.begun(stage) } else { None };
        let params = manifest.or(begun.as_ref()).map(|m| self.source.params(m)).unwrap_or_default();
        vec![News::Session { stage: stage.to_owned(), at, params }]
    }

    fn end(&mut self, stage: &str, at: f64, standing: Standing) -> Vec<News> {
        let own = self.stage(stage);
        if !own.in_session || std::mem::replace(&mut own.ended, true) {
            return Vec::new();
        }
        vec![News::End { stage: stage.to_owned(), at, standing }]
    }

    /// A stage has its result, which another run computed if it is a `hit`.
    fn result(&mut self, stage: &str, at: f64, hit: bool) -> Vec<News> {
        let mut news = Vec::new();
        let left = match self.stage(stage).key {
            None => None,
            Some(key) => self.source.left(stage, &key, hit, &mut self.lacking),
        };
        if let Some(left) = left {
            let made = if hit { left.finished } else { at };
            news = self.points(stage, made, &left);
            let own = self.stage(stage);
            own.outputs.clone_from(&left.outputs);
            own.inputs = digests(&left.manifest["inputs"]);
            let name = stage.to_owned();
            if !left.pictures.is_empty() {
                own.pictured = true;
                news.push(News::Pictures { stage: name.clone(), at: made, pictures: left.pictures });
            }
            if !left.scores.is_empty() {
                let trained = left.adapter.and_then(|adapter| self.trained(stage, &adapter));
                for judged in [Some(name), trained].into_iter().flatten() {
                    let first = !std::mem::replace(&mut self.stage(&judged).judged, true);
                    let by = (!first).then(|| stage.to_owned());
                    news.push(News::Scores { stage: judged, at: made, by, scores: left.scores.clone() });
                }
            }
        }
        news.extend(self.end(stage, at, if hit { Standing::Hit } else { Standing::Run }));
        news
    }

    /// All points anew, if the result has others than were heard.
    fn points(&mut self, stage: &str, at: f64, left: &Left) -> Vec<News> {
        let Some(metrics) = left.metrics.clone() else { return Vec::new() };
        let course = &mut self.stage(stage).course;
        let told = !course.points().is_empty();
        if !course.settle(metrics, left.finished) {
            return Vec::new();
        }
        let points: Vec<Point> = course.points().to_vec();
        let mut news = self.session(stage, at, Some(&left.manifest));
        if told {
            news.push(News::Again { stage: stage.to_owned(), at, keep: None });
        }
        news.extend(points.into_iter().map(|point| News::Point { stage: stage.to_owned(), point }));
        news
    }

    /// The stage with curves whose adapter this is: the one that left it, or the one of whose candidates it was chosen.
    fn trained(&self, evaluation: &str, adapter: &Digest) -> Option<String> {
        let needs = |name: &str| self.stages.get(name).map(|s| s.needs.as_slice()).unwrap_or_default();
        let left = |name: &&String| {
            self.stages.get(name.as_str()).is_some_and(|s| s.outputs.iter().any(|(_, digest)| digest == adapter))
        };
        let has_curves = |name: &str| self.stages.get(name).is_some_and(|s| !s.course.points().is_empty());
        let maker = needs(evaluation).iter().find(left)?;
        if has_curves(maker) {
            return Some(maker.clone());
        }
        // Not what it read as a base, which may have been trained too.
        let read = &self.stages.get(maker)?.inputs;
        let of_adapters = |name: &&String| {
            let kind = |port_type: &str| matches!(port_type, "lora" | "candidates");
            let outputs = self.stages.get(name.as_str()).map(|s| s.outputs.as_slice()).unwrap_or_default();
            outputs.iter().any(|(port_type, digest)| kind(port_type) && read.contains(digest))
        };
        let mut all = needs(maker).iter().filter(|name| has_curves(name)).filter(of_adapters);
        // What was made of several adapters is nobody's own.
        all.next().filter(|_| all.next().is_none()).cloned()
    }
}

/// The digests of a manifest's inputs.
fn digests(inputs: &Value) -> Vec<Digest> {
    inputs.as_object().into_iter().flatten().filter_map(|(_, d)| d.as_str()?.parse().ok()).collect()
}
