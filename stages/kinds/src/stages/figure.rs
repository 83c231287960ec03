//! `figure`: scores against training time or operations, as CSV and drawn.

use crate::code;
use crate::report::seeds::no_column;
use crate::report::titles::twice;
use crate::report::{seeds, timing};
use opdflow_api::port::{Input, Output};
use opdflow_api::{Code, Description, Foreseen, ParamFault, Ports, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// The stage kind.
pub struct Figure;

/// A line, as recipes write it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LineSpec {
    /// Its title in the legend; each line has one of its own.
    #[schemars(length(min = 1))]
    pub title: String,
    /// Names on `curves`, each also on `timings`: trainings that follow one another.
    #[schemars(length(min = 1))]
    pub curves: Vec<String>,
    /// Names on `timings` of what was trained before the line begins: the inner lists ran side by side, the outer one
    /// after the other.
    #[serde(default)]
    pub after: Vec<Vec<String>>,
}

/// What a figure has from left to right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// Wall time of training, which other work on the machine stretches.
    #[default]
    Seconds,
    /// Operations that trainings counted, the same on every machine.
    Operations,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// The lines.
    #[schemars(length(min = 1))]
    pub lines: Vec<LineSpec>,
    /// Rewards and their parts, a panel each; the miniature's three if absent.
    #[schemars(length(min = 1))]
    #[serde(default = "columns")]
    pub columns: Vec<String>,
    /// Printed above the figure.
    #[serde(default)]
    pub title: String,
    /// What of a training the scores are drawn against; the CSV has both.
    #[serde(default)]
    pub against: Against,
}

fn columns() -> Vec<String> {
    ["geneval", "ocr", "looks"].map(str::to_owned).to_vec()
}

impl Stage for Figure {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "figure",
            semantics: 3,
            about: "Scores against training time or operations: a panel per column, a line per method. What a candidate took is its share of the training's rounds, after all that was trained before; of what was trained side by side the longest counts. Of what was collected over a matrix of seeds it draws means over all of them: of candidates after as many rounds, and of the last of each.",
            inputs: const {
                &[
                    Input::many("curves", &["curve"], "scores of candidates"),
                    Input::many("timings", &["timing"], "training times, under the names of `curves`"),
                    Input::optional(
                        "base",
                        &["scores"],
                        "the base's scores on the same prompts: where every line begins",
                    ),
                ]
            },
            outputs: const {
                &[
                    Output::new(
                        "csv",
                        "csv",
                        "`method,step,seconds,gradients,operations` and the columns, a line per candidate",
                    )
                    .result()
                    .file("csv"),
                    Output::new("svg", "svg", "the figure").file("svg"),
                    Output::new("png", "png", "the figure").result().file("png"),
                ]
            },
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = twice(|i| format!("lines[{i}].title"), params.lines.iter().map(|line| &line.title));
        faults.extend(twice(|i| format!("columns[{i}]"), params.columns.iter()));
        faults
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        for (i, line) in params.lines.iter().enumerate() {
            for (j, name) in line.curves.iter().enumerate() {
                let of = |port| seeds::unconnected(ports, port, name, format!("lines[{i}].curves[{j}]"));
                faults.extend(of("curves").or_else(|| of("timings")));
            }
            faults.extend(timing::unconnected(ports, &line.after, &format!("lines[{i}].after")));
        }
        faults
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("figure", &[&["judging", "prompts.read", "stages.pipeline", "stages.tables", "miniature.subjects"]])
    }

    fn unfit(&self, params: &Params, _folder: &Path, ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let Some(curves) = seeds::foreseen(ports, inputs, "curves") else { return Vec::new() };
        let there: BTreeSet<&String> = curves.values().flatten().collect();
        let asked = params.columns.iter().enumerate().filter(|_| params.columns != columns());
        let unknown = asked.filter(|(_, column)| !there.contains(column));
        unknown.map(|(i, column)| no_column(format!("columns[{i}]"), column, &there)).collect()
    }
}
