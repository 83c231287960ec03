//! `table`: the paper's table of several models, and a grid of their pictures.

mod budget;
mod form;
mod published;
mod render;

use crate::code;
use crate::score::Scores;
use crate::timing::cost;
use crate::{grid, pictures, seeds, timing};
use anyhow::{Context as _, Result};
use budget::Budget;
use form::{Form, Row};
use opdflow_rewards::Picture;
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{Code, Description, Foreseen, ParamFault, Ports, Stage, StageContext};
use published::{Published, SECONDS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The stage kind.
pub struct Table;

/// A row, as recipes write it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RowSpec {
    /// Name on the port `scores`; of a stage that was collected over a matrix of seeds, the name without the seeds.
    scores: String,
    /// What is printed.
    title: String,
    /// Names on the port `timings`, a list of lists: what runs side by side counts as its slowest, what runs one after the
    /// other adds up; CPU and GPU seconds add up in either case.
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
    /// The rows.
    #[schemars(length(min = 1))]
    rows: Vec<RowSpec>,
    /// Rewards and their parts; the miniature's six if absent.
    #[serde(default = "columns")]
    columns: Vec<String>,
    /// Columns that enter the average: each is mapped to 0..1 between the lowest and the highest row.
    #[serde(default = "averaged")]
    average: Vec<String>,
    /// Adds, below the table, the share of each teacher's gain over the base that the student keeps.
    #[serde(default)]
    kept: Option<Kept>,
    /// Names on `scores` whose trainings are compared with each other: says below the table whether they took equally many
    /// gradients, or from how many to how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    equal: Vec<String>,
    /// Adds the numbers of a publication beside ours, and for each column how many pairs of rows are in the same order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    published: Option<Published>,
    /// Printed above the table.
    #[serde(default)]
    title: String,
    /// Pictures of each set in the grid.
    #[schemars(range(min = 0, max = 1000))]
    #[serde(default = "eight")]
    pictures: usize,
    /// Enlargement of the grid's pictures.
    #[schemars(range(min = 1, max = 64))]
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
            semantics: 4,
            about: "A table of models: training time (wall, and CPU or GPU), gradients, a column a reward, and the average of the min-max normalised columns; as Markdown, CSV and LaTeX, with a grid of the same prompts across all rows. Of a stage that was collected over a matrix of seeds it shows the mean and a 95 % interval (Student's t).",
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
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        for (i, column) in params.average.iter().enumerate().filter(|(_, c)| !params.columns.contains(c)) {
            faults.push(ParamFault::new(format!("average[{i}]"), format!("`{column}` is not among `columns`")));
        }
        faults.extend(params.equal.iter().enumerate().filter_map(|(i, name)| uncounted(params, i, name)));
        faults.extend(params.published.iter().flat_map(|p| misplaced(params, p)));
        faults
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("table", &[&["judging", "prompts.read", "stages.studio", "stages.tables", "world.subjects"]])
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        for (i, row) in params.rows.iter().enumerate() {
            faults.extend(seeds::unconnected(ports, "scores", &row.scores, format!("rows[{i}].scores")));
            faults.extend(timing::unconnected(ports, &row.seconds, &format!("rows[{i}].seconds")));
        }
        if let Some(kept) = &params.kept {
            let teachers = kept.teachers.iter().map(|(column, name)| (format!("teachers.{column}"), name));
            let models = [("base".to_owned(), &kept.base), ("student".to_owned(), &kept.student)];
            for (at, name) in models.into_iter().chain(teachers) {
                faults.extend(seeds::unconnected(ports, "scores", name, format!("kept.{at}")));
            }
        }
        faults
    }

    fn unfit(&self, params: &Params, _folder: &Path, ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let Some(scores) = seeds::foreseen(ports, inputs, "scores") else { return Vec::new() };
        let names: Vec<String> = scores.keys().cloned().collect();
        let of = |name: &String| -> BTreeSet<&String> {
            seeds::collected(&names, name).into_iter().flat_map(|n| &scores[n]).collect()
        };
        let shown: BTreeSet<&String> = params.rows.iter().flat_map(|row| of(&row.scores)).collect();
        // Of the columns that a table has unasked, some may stay empty.
        let asked = params.columns.iter().enumerate().filter(|_| params.columns != columns());
        let mut faults: Vec<ParamFault> = asked
            .filter(|(_, column)| !shown.contains(column))
            .map(|(i, column)| no_column(format!("columns[{i}]"), column, &shown))
            .collect();
        if let Some(kept) = &params.kept {
            for (column, teacher) in &kept.teachers {
                let lacking = [&kept.base, &kept.student, teacher].into_iter().find(|name| !of(name).contains(column));
                faults.extend(lacking.map(|name| no_column(format!("kept.teachers.{column}"), column, &of(name))));
            }
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

/// The fault of naming a column that none of the scores have.
pub(crate) fn no_column(path: String, column: &str, there: &BTreeSet<&String>) -> ParamFault {
    let names: Vec<&str> = there.iter().map(|c| c.as_str()).collect();
    ParamFault::new(path, format!("no scores have a column `{column}`")).help(format!("there are {}", names.join(", ")))
}

/// What is wrong with the `i`-th name of `equal`, a row whose gradients are to be counted.
fn uncounted(params: &Params, i: usize, name: &str) -> Option<ParamFault> {
    let at = format!("equal[{i}]");
    match params.rows.iter().find(|r| r.scores == *name) {
        None => Some(ParamFault::new(at, format!("no row shows the scores `{name}`")).help("name it as in `rows`")),
        Some(row) if row.seconds.is_empty() => {
            let fault = ParamFault::new(at, format!("of the row `{}` no training is known", row.title));
            Some(fault.help("give the row its `seconds`"))
        }
        Some(_) => None,
    }
}

/// Published numbers that have no place in the table.
fn misplaced(params: &Params, published: &Published) -> Vec<ParamFault> {
    let mut faults = Vec::new();
    for column in published.columns.keys().filter(|c| *c != SECONDS && !params.columns.contains(c)) {
        let fault =
            ParamFault::new(format!("published.columns.{column}"), format!("`{column}` is not among `columns`"));
        faults.push(fault.help(format!("there are {SECONDS}, {}", params.columns.join(", "))));
    }
    for (row, numbers) in &published.rows {
        if !params.rows.iter().any(|r| r.scores == *row) {
            let fault = ParamFault::new(format!("published.rows.{row}"), format!("no row shows the scores `{row}`"));
            faults.push(fault.help("name it as in `rows`"));
        }
        for column in numbers.keys().filter(|c| !published.columns.contains_key(*c)) {
            let at = format!("published.rows.{row}.{column}");
            let fault = ParamFault::new(at, format!("`{column}` is not among `published.columns`"));
            faults.push(fault.help("say there what it is called in the publication"));
        }
    }
    faults
}

/// Scores of each name that the table uses, one for each seed.
fn read_scores(params: &Params, context: &StageContext) -> Result<BTreeMap<String, Vec<Scores>>> {
    let mentioned = params
        .rows
        .iter()
        .map(|r| &r.scores)
        .chain(params.kept.iter().flat_map(|k| [&k.base, &k.student].into_iter().chain(k.teachers.values())));
    let mut found = BTreeMap::new();
    for name in mentioned {
        let inputs = seeds::connected(context, "scores", name, "the table names")?;
        let all: Vec<Scores> = inputs.iter().map(|i| Scores::read(&context.input(i)?)).collect::<Result<_>>()?;
        found.insert(name.clone(), all);
    }
    Ok(found)
}

fn fill(params: &Params, scores: &BTreeMap<String, Vec<Scores>>, context: &StageContext) -> Result<Form> {
    let mut rows = Vec::new();
    for spec in &params.rows {
        let cells = params.columns.iter().map(|c| seeds::column(&scores[&spec.scores], c)).collect();
        let cost = cost(context, &spec.seconds)?;
        rows.push(Row {
            title: spec.title.clone(),
            seconds: cost.as_ref().map(|c| c.seconds),
            cpu_seconds: cost.as_ref().and_then(|c| c.cpu_seconds),
            gpu_seconds: cost.as_ref().and_then(|c| c.gpu_seconds),
            gradients: cost.map(|c| c.gradients),
            cells,
            average: None,
        });
    }
    let averaged: Vec<usize> =
        params.columns.iter().enumerate().filter(|(_, c)| params.average.contains(c)).map(|(i, _)| i).collect();
    form::average(&mut rows, &averaged);
    let kept = params.kept.as_ref().map(|k| {
        let share = |(column, teacher): (&String, &String)| {
            let of = |name: &String| seeds::column(&scores[name], column).map(|c| c.mean);
            Some((column.clone(), form::kept(of(&k.base)?, of(teacher)?, of(&k.student)?)))
        };
        k.teachers.iter().filter_map(share).collect()
    });
    let names: Vec<&str> = params.rows.iter().map(|r| r.scores.as_str()).collect();
    let compared = |name: &String| names.iter().position(|n| n == name).map(|place| &rows[place]);
    let budget = Budget::of(params.equal.iter().filter_map(compared));
    let published = params.published.as_ref().map(|p| published::compare(p, &names, &params.columns, &rows));
    Ok(Form {
        title: params.title.clone(),
        columns: params.columns.clone(),
        averaged: params.average.clone(),
        rows,
        kept: kept.unwrap_or_default(),
        budget,
        published,
    })
}

/// The first pictures of every set of one model; of its first seed, if there are several.
fn picture_row(context: &StageContext, name: &str, count: usize) -> Result<Vec<Picture>> {
    let names = context.names("pictures");
    let Some(first) = seeds::collected(&names, name).first().copied() else { return Ok(Vec::new()) };
    let folder = context.input(&format!("pictures.{first}"))?;
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
