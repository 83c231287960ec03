//! Out of the log and the store comes what a page shows.

use super::content::{Content, Curves, ImageRow, ImageSet, Options, Page, ScoredImage, Shown};
use super::samples;
use crate::report::artefacts::{self, Kept, Score};
use crate::report::numbers::Numbers;
use crate::report::{Standing, Summary};
use crate::runlog::{Line, RunEvent, RunFolder};
use opdflow_api::cache::{ActionRecord, Output, Store};
use opdflow_api::{Registry, Shown as Looks};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most bytes of images on the way.
const MOST_SAMPLES: usize = 6 << 20;

/// A folder in words.
fn place(folder: &Path, options: Options) -> String {
    if options.no_prompts { "the folder of the run".to_owned() } else { folder.display().to_string() }
}

/// Whether this is the name of a folder, and no path to anywhere else: it comes from a record.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

impl Page {
    /// What there is to show of a run. What cannot be read is named on the page, and hides nothing else.
    #[must_use]
    pub fn of(
        folder: &RunFolder,
        lines: &[Line],
        alive: bool,
        store: &Store,
        registry: &Registry,
        options: Options,
    ) -> Self {
        let shown = !options.no_prompts;
        let run = Self {
            run: folder.name(),
            alive,
            recipe: std::fs::read_to_string(folder.path().join("recipe.yaml")).ok().filter(|_| shown),
            outputs: shown.then(|| folder.path().join("outputs").display().to_string()),
            ..Self::default()
        };
        let home = folder.path().parent().unwrap_or(folder.path());
        run.filled(lines, store, registry, options).with_samples(home, options)
    }

    /// What the store has of a recipe: `lines` are those of a run in which nothing but hits happened. `home`: where runs are.
    #[must_use]
    pub fn of_store(
        recipe: Option<String>,
        lines: &[Line],
        home: &Path,
        store: &Store,
        registry: &Registry,
        options: Options,
    ) -> Self {
        let page = Self { recipe: recipe.filter(|_| !options.no_prompts), ..Self::default() };
        page.filled(lines, store, registry, options).with_samples(home, options)
    }

    /// Adds what trainings left on their way in this run, or in the one that computed them.
    fn with_samples(mut self, home: &Path, options: Options) -> Self {
        let mut room = MOST_SAMPLES;
        let trained: Vec<String> = self.curves.iter().map(|c| c.stage.clone()).collect();
        for stage in trained {
            let computed = self.fact(&stage, "run").filter(|name| is_name(name));
            let runs = [Some(self.run.as_str()).filter(|name| !name.is_empty()), computed];
            let folders = runs.into_iter().flatten().map(|run| RunFolder::of(home.join(run)).samples(&stage));
            let Some(folder) = folders.into_iter().find(|folder| folder.is_dir()) else {
                self.without_samples.push(stage);
                continue;
            };
            match samples::read(&folder, &stage, &mut room, options) {
                Ok((set, left_out)) => {
                    self.samples.extend(set);
                    if left_out > 0 {
                        let most = MOST_SAMPLES >> 20;
                        let what = format!("{left_out} images on the way of `{stage}`: the page has {most} MB of them");
                        self.lacking.push(format!("{what}; all are in {}", place(&folder, options)));
                    }
                }
                Err(error) => self.lacking.push(format!("`{stage}`, images on the way: {error}")),
            }
        }
        self
    }

    fn filled(self, lines: &[Line], store: &Store, registry: &Registry, options: Options) -> Self {
        let summary = Summary::of(lines);
        let mut page = self;
        let mut curves = live(lines);
        let (mut images, mut room) = (BTreeMap::new(), options.image_bytes);
        let needed: BTreeSet<&str> =
            summary.started.stages.iter().flat_map(|s| s.needs.iter().map(String::as_str)).collect();
        for stage in &summary.stages {
            let Some(record) = page.record(store, stage) else { continue };
            let kind = record.manifest.get("kind").and_then(Value::as_str).and_then(|kind| registry.get(kind));
            for (port, output) in &record.outputs {
                let about = kind.and_then(|k| k.describe().outputs.iter().find(|o| o.name == port));
                let read = |page: &mut Self| artefacts::bytes(store, (&stage.name, port), output, &mut page.lacking);
                if output.port_type == "json" {
                    if let Some(bytes) = read(&mut page) {
                        page.numbers.extend(Numbers::read(&bytes, &stage.name, &record, &summary));
                    }
                } else if output.port_type == "cost" {
                    let cost = read(&mut page).and_then(|b| serde_json::from_slice::<Value>(&b).ok());
                    let operations = cost.and_then(|c| c["operations"].as_f64());
                    page.operations.extend(operations.map(|n| (stage.name.clone(), n)));
                } else if port == "metrics" {
                    if let Some(bytes) = read(&mut page) {
                        curves.insert(stage.name.clone(), series(&bytes));
                    }
                } else if output.port_type == "images" {
                    let samples = record.outputs.get("samples").and_then(|o| store.read(&o.object.digest).ok());
                    page.take_images(store, &stage.name, output, samples.as_deref(), (&mut images, &mut room, options));
                } else if let Some(Looks::File(ending)) = about.map(|o| o.shown) {
                    let of = |content| Shown { stage: stage.name.clone(), port: port.clone(), content };
                    let shown = match ending {
                        "md" => {
                            read(&mut page).map(|b| of(Content::Markdown(String::from_utf8_lossy(&b).into_owned())))
                        }
                        // A figure is there as PNG too.
                        "svg" => read(&mut page).map(|b| of(Content::Image("image/svg+xml", b))),
                        "png" if !record.outputs.values().any(|o| o.port_type == "svg") => {
                            read(&mut page).map(|b| of(Content::Image("image/png", b)))
                        }
                        _ => None,
                    };
                    let list = if needed.contains(stage.name.as_str()) { &mut page.others } else { &mut page.results };
                    list.extend(shown);
                }
            }
            page.records.insert(stage.name.clone(), record);
        }
        let mut curves: Vec<Curves> = order(&summary, curves);
        validated(&page.records, &summary, store, &mut curves);
        choices(&summary, store, &mut curves);
        page.curves = curves;
        page.images = images.into_values().collect();
        page.summary = summary;
        if options.no_prompts {
            page.summary.started.argv.clear();
            page.summary.started.path.clear();
            page.summary.started.store.clear();
        }
        page
    }

    fn record(&mut self, store: &Store, stage: &crate::report::StageSummary) -> Option<ActionRecord> {
        let done = matches!(stage.state, Standing::Hit | Standing::Run | Standing::Resumed);
        let key = stage.key.filter(|_| done)?;
        artefacts::record(store, &stage.name, &key, &mut self.lacking)
    }

    /// The images of a folder `set/000.png`, with the prompt beside each as `000.txt`.
    fn take_images(
        &mut self,
        store: &Store,
        stage: &str,
        output: &Output,
        samples: Option<&[u8]>,
        (sets, room, options): (&mut BTreeMap<String, ImageSet>, &mut usize, Options),
    ) {
        let entries = match store.tree(&output.object.digest) {
            Ok(entries) => entries,
            Err(error) => return self.lacking.push(format!("`{stage}`, images: {error}")),
        };
        let scores = artefacts::scores_of_images(samples.unwrap_or_default());
        let (kept, strange) = artefacts::images(&entries);
        for path in strange {
            self.lacking.push(format!("`{stage}`: the image `{path}` has a number beyond all images"));
        }
        for Kept { set, number, png, prompt } in kept {
            let digest = png;
            let Ok(png) = store.read(digest) else { continue };
            let fits = png.len() <= *room;
            *room -= if fits { png.len() } else { 0 };
            let of =
                sets.entry(set.to_owned()).or_insert_with(|| ImageSet { name: set.to_owned(), ..Default::default() });
            let column = of.stages.iter().position(|s| s == stage).unwrap_or_else(|| {
                of.stages.push(stage.to_owned());
                of.stages.len() - 1
            });
            if of.rows.len() <= number {
                of.rows.resize_with(number + 1, ImageRow::default);
            }
            let row = &mut of.rows[number];
            if !options.no_prompts && row.prompt.is_none() {
                let text = prompt.and_then(|d| store.read(d).ok());
                row.prompt = text.map(|t| String::from_utf8_lossy(&t).trim().to_owned());
            }
            if row.images.len() <= column {
                row.images.resize_with(column + 1, || None);
            }
            let own = scores.get(&(set.to_owned(), number)).cloned().unwrap_or_default();
            let (png, beside) = if fits {
                (png, None)
            } else {
                // A name that nobody else chose.
                let name = format!("{}.png", digest.short());
                self.files.insert(name.clone(), png);
                (Vec::new(), Some(name))
            };
            row.images[column] = Some(ScoredImage { png, beside, scores: own });
        }
    }
}

/// The metrics of stages that are not in the store, as the log has them.
fn live(lines: &[Line]) -> BTreeMap<String, BTreeMap<String, Vec<(u64, f64)>>> {
    let mut found: BTreeMap<String, BTreeMap<String, BTreeMap<u64, f64>>> = BTreeMap::new();
    for line in lines {
        if let RunEvent::Metric { stage, step, name, value: Some(value) } = &line.event {
            // A stage that went on from a checkpoint tells some steps again: the last word counts.
            found.entry(stage.clone()).or_default().entry(name.clone()).or_default().insert(*step, *value);
        }
    }
    let rows = |by_name: BTreeMap<String, BTreeMap<u64, f64>>| {
        by_name.into_iter().map(|(name, values)| (name, values.into_iter().collect())).collect()
    };
    found.into_iter().map(|(stage, by_name)| (stage, rows(by_name))).collect()
}

/// The metrics of a stage as it left them. A chart has no place for what is not finite.
fn series(bytes: &[u8]) -> BTreeMap<String, Vec<(u64, f64)>> {
    let mut found: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    for sample in artefacts::metrics(bytes).into_iter().filter(|sample| sample.value.is_finite()) {
        found.entry(sample.name).or_default().push((sample.step, sample.value));
    }
    found
}

/// In the order of the plan.
fn order(summary: &Summary, mut curves: BTreeMap<String, BTreeMap<String, Vec<(u64, f64)>>>) -> Vec<Curves> {
    let take = |stage: &String| {
        let series = curves.remove(stage)?;
        Some(Curves { stage: stage.clone(), series, chosen: Vec::new() })
    };
    summary.stages.iter().map(|s| &s.name).filter_map(take).collect()
}

/// Adds the scores of a training's candidates, which another stage gave: by the training's step, a series for each column.
fn validated(records: &BTreeMap<String, ActionRecord>, summary: &Summary, store: &Store, curves: &mut [Curves]) {
    for (stage, record) in records {
        for output in record.outputs.values().filter(|o| o.port_type == "curve") {
            let Ok(bytes) = store.read(&output.object.digest) else { continue };
            let mut found: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
            for (step, scores) in artefacts::curve(&bytes) {
                for Score { set, column, mean, .. } in scores {
                    found.entry(format!("{column} on {set}, by {stage}")).or_default().push((step, mean));
                }
            }
            let needs = summary.started.stages.iter().find(|s| s.name == *stage).map(|s| &s.needs);
            for one in curves.iter_mut().filter(|c| needs.is_some_and(|n| n.contains(&c.stage))) {
                one.series.extend(found.clone());
            }
        }
    }
}

/// Marks the steps that other stages chose: an output `choice` says which, and what the chooser reads says of whom.
fn choices(summary: &Summary, store: &Store, curves: &mut [Curves]) {
    for stage in &summary.stages {
        let Some(record) = stage.key.and_then(|key| store.action(&key).ok().flatten()) else { continue };
        let Some(bytes) = record.outputs.get("choice").and_then(|o| store.read(&o.object.digest).ok()) else {
            continue;
        };
        let Ok(choice) = serde_json::from_slice::<Value>(&bytes) else { continue };
        let step = choice["chosen"].as_str().and_then(|s| s.rsplit('-').next()).and_then(|n| n.parse().ok());
        let needs = summary.started.stages.iter().find(|s| s.name == stage.name).map(|s| &s.needs);
        if let (Some(step), Some(needs)) = (step, needs) {
            for curve in curves.iter_mut().filter(|c| needs.contains(&c.stage)) {
                curve.chosen.push((step, stage.name.clone()));
            }
        }
    }
}
