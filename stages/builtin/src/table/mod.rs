//! `table`: the paper's table of several models, and a grid of their pictures.

mod form;
mod render;

use crate::score::Scores;
use crate::{grid, pictures};
use anyhow::{Context as _, Result};
use form::{Cell, Form, Row};
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{Description, Fault, ParamDoc, ParamFault, Stage, StageContext};
use opdflow_world::Picture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The stage kind.
pub struct Table;

/// A row, as recipes write it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RowSpec {
    /// Name on the port `scores`.
    scores: String,
    /// What is printed.
    title: String,
    /// Names on the port `timings`: the inner lists run side by side, the outer one after the other.
    #[serde(default)]
    seconds: Vec<Vec<String>>,
}

/// Whose gains a student is to keep.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The base's name on `scores`.
    base: String,
    /// The student's.
    student: String,
    /// Column to the teacher's name on `scores`.
    teachers: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    rows: Vec<RowSpec>,
    #[serde(default = "columns")]
    columns: Vec<String>,
    #[serde(default = "averaged")]
    average: Vec<String>,
    #[serde(default)]
    kept: Option<Kept>,
    #[serde(default)]
    title: String,
    #[serde(default = "eight")]
    pictures: usize,
    #[serde(default = "two")]
    scale: usize,
}

fn columns() -> Vec<String> {
    ["geneval", "ocr", "looks", "looks.colourfulness", "looks.contrast", "looks.smoothness"].map(str::to_owned).to_vec()
}
fn averaged() -> Vec<String> {
    ["geneval", "ocr", "looks"].map(str::to_owned).to_vec()
}
fn eight() -> usize {
    8
}
fn two() -> usize {
    2
}

impl Stage for Table {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "table",
            semantics: 2,
            about: "A table of models: training time and gradients, a column a reward, and the average of the min-max normalised columns; as Markdown, CSV and LaTeX, with a grid of the same prompts across all rows.",
            inputs: const {
                &[
                    Input::many("scores", &["scores"], "scores of each model"),
                    Input::any("pictures", &["pictures"], "pictures of each model, under the names of `scores`"),
                    Input::any("timings", &["timing"], "training times"),
                ]
            },
            outputs: const {
                &[
                    Output::new("markdown", "markdown", "the table"),
                    Output::new("csv", "csv", "the table; the first column is `model`"),
                    Output::new("latex", "latex", "the table"),
                    Output::new("json", "json", "the table with standard errors"),
                    Output::new("png", "png", "a row a model, the same prompts in every row").maybe(),
                ]
            },
            params: &[
                ParamDoc {
                    name: "rows",
                    about: "list of `{scores, title, seconds}`; `seconds` is a list of lists of names on `timings`: what runs side by side counts as its slowest, what runs one after the other adds up",
                },
                ParamDoc { name: "columns", about: "rewards and their parts; the miniature's six if absent" },
                ParamDoc {
                    name: "average",
                    about: "columns that enter the average: each is mapped to 0..1 between the lowest and the highest row",
                },
                ParamDoc {
                    name: "kept",
                    about: "`{base, student, teachers: {column: name}}`: adds, below the table, the share of each teacher's gain over the base that the student keeps",
                },
                ParamDoc { name: "title", about: "printed above the table" },
                ParamDoc { name: "pictures", about: "pictures of each set in the grid" },
                ParamDoc { name: "scale", about: "enlargement of the grid's pictures" },
            ],
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        if params.rows.is_empty() {
            faults.push(ParamFault::new("rows", "there is no row"));
        }
        for (i, column) in params.average.iter().enumerate().filter(|(_, c)| !params.columns.contains(c)) {
            faults.push(ParamFault::new(format!("average[{i}]"), format!("`{column}` is not among `columns`")));
        }
        faults
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        let scores = read_scores(&params, context)?;
        let form = fill(&params, &scores, context)?;
        let write = |port: &str, text: String| {
            std::fs::write(context.output(port), text).with_context(|| format!("writing `{port}`"))
        };
        write("markdown", render::markdown(&form))?;
        write("csv", render::csv(&form))?;
        write("latex", render::latex(&form))?;
        write("json", serde_json::to_string_pretty(&form)? + "\n")?;
        let rows =
            params.rows.iter().map(|r| picture_row(context, &r.scores, params.pictures)).collect::<Result<Vec<_>>>()?;
        if let Some(sheet) = grid::sheet(&rows, params.scale) {
            pictures::write_png(&context.output("png"), &sheet)?;
        }
        Ok(())
    }
}

fn read_scores(params: &Params, context: &StageContext) -> Result<BTreeMap<String, Scores>> {
    let names = context.names("scores");
    let mentioned = params
        .rows
        .iter()
        .map(|r| &r.scores)
        .chain(params.kept.iter().flat_map(|k| [&k.base, &k.student].into_iter().chain(k.teachers.values())));
    for name in mentioned {
        if !names.contains(name) {
            let fault = Fault::user(format!("the table names `{name}`, but nothing is connected as `scores.{name}`"));
            return Err(fault.help(format!("connected are {}", names.join(", "))).into());
        }
    }
    names.into_iter().map(|n| Ok((n.clone(), Scores::read(&context.input(&format!("scores.{n}"))?)?))).collect()
}

fn fill(params: &Params, scores: &BTreeMap<String, Scores>, context: &StageContext) -> Result<Form> {
    let mut rows = Vec::new();
    for spec in &params.rows {
        let own = &scores[&spec.scores];
        let cells =
            params.columns.iter().map(|c| own.mean(c).map(|m| Cell { mean: m.mean, error: m.error, n: m.n })).collect();
        let (mut seconds, mut gradients) = (None, None);
        for side_by_side in &spec.seconds {
            let mut slowest = 0.0_f64;
            for name in side_by_side {
                let timing = read_timing(context, name)?;
                slowest = slowest.max(timing.seconds);
                gradients = Some(gradients.unwrap_or(0) + timing.gradients);
            }
            seconds = Some(seconds.unwrap_or(0.0) + slowest);
        }
        rows.push(Row { title: spec.title.clone(), seconds, gradients, cells, average: None });
    }
    let averaged: Vec<usize> =
        params.columns.iter().enumerate().filter(|(_, c)| params.average.contains(c)).map(|(i, _)| i).collect();
    form::average(&mut rows, &averaged);
    let kept = params.kept.as_ref().map(|k| {
        let share = |(column, teacher): (&String, &String)| {
            let of = |name: &String| scores[name].mean(column).map(|m| m.mean);
            Some((column.clone(), form::kept(of(&k.base)?, of(teacher)?, of(&k.student)?)))
        };
        k.teachers.iter().filter_map(share).collect()
    });
    Ok(Form {
        title: params.title.clone(),
        columns: params.columns.clone(),
        averaged: params.average.clone(),
        rows,
        kept: kept.unwrap_or_default(),
    })
}

/// What training stages say of their cost.
#[derive(Deserialize)]
struct Timing {
    seconds: f64,
    #[serde(default)]
    gradients: u64,
}

fn read_timing(context: &StageContext, name: &str) -> Result<Timing> {
    let port = format!("timings.{name}");
    let path = context
        .maybe_input(&port)?
        .ok_or_else(|| Fault::user(format!("a row's `seconds` name `{name}`, but nothing is connected as `{port}`")))?;
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("`{port}` is not a timing"))
}

/// The first pictures of every set of one model.
fn picture_row(context: &StageContext, name: &str, count: usize) -> Result<Vec<Picture>> {
    let Some(folder) = context.maybe_input(&format!("pictures.{name}"))? else { return Ok(Vec::new()) };
    let mut row = Vec::new();
    for set in sorted(&folder)? {
        let mut files: Vec<_> =
            sorted(&set)?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "png")).collect();
        files.truncate(count);
        for file in files {
            row.push(pictures::read_png(&file)?);
        }
    }
    Ok(row)
}

fn sorted(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|e| Ok(e?.path()))
        .collect::<Result<Vec<_>>>()?;
    found.sort();
    Ok(found)
}
