//! `table`: the paper's table of several models, and a grid of their images.

pub mod published;

use crate::code;
use crate::report::seeds::no_column;
use crate::report::titles::twice;
use crate::report::{seeds, timing};
use opdflow_api::port::{Input, Output, meant};
use opdflow_api::{Code, Description, Foreseen, ParamFault, Ports, Stage};
use published::{Published, SECONDS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The port of what each image scored.
pub const SAMPLES: &str = "samples";

/// The stage kind.
pub struct Table;

/// A row, as recipes write it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowSpec {
    /// Name on the port `scores`; of a stage that was collected over a matrix of seeds, the name without the seeds.
    pub scores: String,
    /// What is printed; each row has one of its own.
    #[schemars(length(min = 1))]
    pub title: String,
    /// Names on the port `timings`, a list of lists: what runs side by side counts as its slowest, what runs one after the
    /// other adds up; CPU and GPU seconds add up in either case.
    #[serde(default)]
    pub seconds: Vec<Vec<String>>,
}

/// Whose gains a student is to keep.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The base's name on `scores`.
    pub base: String,
    /// The student's.
    pub student: String,
    /// For each column the teacher's name on `scores`.
    pub teachers: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// The rows.
    #[schemars(length(min = 1))]
    pub rows: Vec<RowSpec>,
    /// Rewards and their parts; the miniature's six if absent.
    #[serde(default = "columns")]
    pub columns: Vec<String>,
    /// Columns that enter the average: each is mapped to 0..1 between the lowest and the highest row. If absent, `geneval`, `ocr` and
    /// `looks`, as far as they are among `columns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<Vec<String>>,
    /// Adds, below the table, the share of each teacher's gain over the base that the student keeps.
    #[serde(default)]
    pub kept: Option<Kept>,
    /// Names on `scores` whose trainings are compared with each other: says below the table whether they took equally many
    /// gradients, or from how many to how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub equal: Vec<String>,
    /// Adds a column of the floating-point operations of all trainings that a row stands on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub operations: bool,
    /// A name on `scores` whose trainings are a measure: says below the table how many times as many operations those of each other
    /// row took, on the longest path through its `seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiples_of: Option<String>,
    /// A name on `scores`: below the table stands by how much its row is ahead of each other, with half of a 95 % interval. Where both were
    /// collected over the same seeds the differences are those of each seed (Student's t); where both have one seed and their `samples`
    /// are connected, those of each prompt; else the interval is made of both rows' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differences: Option<String>,
    /// Adds the numbers of a publication beside ours, and for each column how many pairs of rows are in the same order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// Printed above the table.
    #[serde(default)]
    pub title: String,
    /// Images of each set in the grid.
    #[schemars(range(min = 0, max = 1000))]
    #[serde(default = "eight")]
    #[schemars(extend("x-formerly" = ["pictures"]))]
    pub images: usize,
    /// Enlargement of the grid's images.
    #[schemars(range(min = 1, max = 64))]
    #[serde(default = "two")]
    pub scale: usize,
}

fn columns() -> Vec<String> {
    ["geneval", "ocr", "looks", "looks.colourfulness", "looks.contrast", "looks.smoothness"].map(str::to_owned).to_vec()
}

impl Params {
    /// The columns that enter the average.
    #[must_use]
    pub fn averaged(&self) -> Vec<String> {
        let unasked = || {
            let there = self.columns.iter().filter(|c| ["geneval", "ocr", "looks"].contains(&c.as_str()));
            there.cloned().collect()
        };
        self.average.clone().unwrap_or_else(unasked)
    }
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
            semantics: 7,
            about: "A table of models: training time (wall, and CPU or GPU), gradients, a column per reward, and the average of the min-max normalised columns; as Markdown, CSV and LaTeX, with a grid of the same prompts across all rows. Of a stage that was collected over a matrix of seeds it shows the mean and a 95 % interval (Student's t).",
            inputs: const {
                &[
                    Input::many("scores", &["scores"], "scores of each model"),
                    Input::any("images", &["images"], "images of each model, under the names of `scores`")
                        .formerly(&["pictures"]),
                    Input::any(
                        SAMPLES,
                        &["samples"],
                        "what each image scored, under the names of `scores`: `differences` of rows of one seed are then prompt by prompt",
                    ),
                    Input::any("timings", &["timing"], "training times"),
                ]
            },
            outputs: const {
                &[
                    Output::new("markdown", "markdown", "the table").result().file("md"),
                    Output::new("csv", "csv", "the table; the first column is `model`").result().file("csv"),
                    Output::new("latex", "latex", "the table").result().file("tex"),
                    Output::new("json", "json", "the table with standard errors").file("json"),
                    Output::new("png", "png", "a row per model, the same prompts in every row")
                        .result()
                        .file("png")
                        .maybe(),
                ]
            },
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        let averaged = params.average.iter().flatten().enumerate();
        for (i, column) in averaged.filter(|(_, c)| !params.columns.contains(c)) {
            let fault = ParamFault::new(format!("average[{i}]"), format!("`{column}` is not among `columns`"));
            faults.push(fault.help(format!("there are {}", params.columns.join(", "))));
        }
        faults.extend(twice(|i| format!("rows[{i}].title"), params.rows.iter().map(|row| &row.title)));
        faults.extend(twice(|i| format!("columns[{i}]"), params.columns.iter()));
        let equal = params.equal.iter().enumerate().map(|(i, name)| (format!("equal[{i}]"), name));
        let compared = equal.chain(params.multiples_of.iter().map(|name| ("multiples_of".to_owned(), name)));
        faults.extend(compared.filter_map(|(at, name)| uncounted(params, at, name)));
        let named = params.differences.as_ref().filter(|name| !params.rows.iter().any(|row| row.scores == **name));
        faults.extend(named.map(|name| unshown("differences".to_owned(), name)));
        faults.extend(params.published.iter().flat_map(|p| misplaced(params, p)));
        faults
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("table", &[&["judging", "prompts.read", "stages.pipeline", "stages.tables", "miniature.subjects"]])
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        for (i, row) in params.rows.iter().enumerate() {
            faults.extend(seeds::unconnected(ports, "scores", &row.scores, format!("rows[{i}].scores")));
            faults.extend(timing::unconnected(ports, &row.seconds, &format!("rows[{i}].seconds")));
        }
        faults.extend(unread(params, ports));
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
        let members = ports.members("scores");
        let of = |name: &String| -> BTreeSet<&String> {
            meant(&members, name).into_iter().flat_map(|n| &scores[n]).collect()
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
}

/// That the parameter `at` names scores that no row shows.
fn unshown(at: String, name: &str) -> ParamFault {
    ParamFault::new(at, format!("no row shows the scores `{name}`")).help("name it as in `rows`")
}

/// What is wrong with the `samples` that are connected: nothing reads them, or not under these names.
fn unread(params: &Params, ports: &Ports) -> Option<ParamFault> {
    let (members, scores) = (ports.members(SAMPLES), ports.members("scores"));
    let fault = |what: String| ParamFault::new("differences".to_owned(), what);
    if params.differences.is_none() && !members.is_empty() {
        let fault = fault(format!("`{SAMPLES}` are connected, and only `differences` reads them"));
        return Some(fault.help("name the row that the others are held against, or connect none"));
    }
    let strange = members.iter().find(|member| !scores.iter().any(|of| of.name == member.name))?;
    let name = strange.of_seed.as_ref().map_or(&strange.name, |of| &of.name);
    let fault = fault(format!("`{SAMPLES}.{name}` is connected, but no `scores.{name}`"));
    Some(fault.help("give both the same name"))
}

/// What is wrong with a name at `at`, a row whose gradients or operations are to be counted.
fn uncounted(params: &Params, at: String, name: &str) -> Option<ParamFault> {
    match params.rows.iter().find(|r| r.scores == *name) {
        None => Some(unshown(at, name)),
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
            faults.push(unshown(format!("published.rows.{row}"), row));
        }
        for column in numbers.keys().filter(|c| !published.columns.contains_key(*c)) {
            let at = format!("published.rows.{row}.{column}");
            let fault = ParamFault::new(at, format!("`{column}` is not among `published.columns`"));
            faults.push(fault.help("say there what it is called in the publication"));
        }
    }
    faults
}
