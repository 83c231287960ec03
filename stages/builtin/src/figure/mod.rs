//! `figure`: scores against training time, as CSV and drawn.

mod drawing;
mod line;
mod plot;
mod raster;
mod svg;

use crate::code;
use crate::curve::Curve;
use crate::score::Scores;
use crate::{pictures, seeds, timing};
use anyhow::{Context as _, Result};
use line::{Line, Part};
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{Code, Description, ParamDoc, ParamFault, Ports, Stage, StageContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage kind.
pub struct Figure;

/// A line, as recipes write it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LineSpec {
    /// What it is called.
    title: String,
    /// Names on `curves`, each also on `timings`: trainings that follow one another.
    curves: Vec<String>,
    /// Names on `timings` of what was trained before the line begins: the inner lists ran side by side, the outer one
    /// after the other.
    #[serde(default)]
    after: Vec<Vec<String>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    lines: Vec<LineSpec>,
    #[serde(default = "columns")]
    columns: Vec<String>,
    #[serde(default)]
    title: String,
}

fn columns() -> Vec<String> {
    ["geneval", "ocr", "looks"].map(str::to_owned).to_vec()
}

impl Stage for Figure {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "figure",
            semantics: 2,
            about: "Scores against training time: a panel a column, a line a method. A candidate's time is its share of the training's rounds, after the time of all that was trained before. Of what was collected over a matrix of seeds it draws the mean.",
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
                    Output::new("csv", "csv", "`method,step,seconds,gradients` and the columns, a line a candidate"),
                    Output::new("svg", "svg", "the figure"),
                    Output::new("png", "png", "the figure"),
                ]
            },
            params: &[
                ParamDoc {
                    name: "lines",
                    about: "list of `{title, curves, after}`: `curves` are names on `curves` and `timings` that follow one another, `after` (lists of lists, as in a table's `seconds`) what was trained before",
                },
                ParamDoc {
                    name: "columns",
                    about: "rewards and their parts, a panel each; the miniature's three if absent",
                },
                ParamDoc { name: "title", about: "printed above the figure" },
            ],
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        if params.lines.is_empty() {
            faults.push(ParamFault::new("lines", "there is no line"));
        }
        if params.columns.is_empty() {
            faults.push(ParamFault::new("columns", "there is no column"));
        }
        for (i, _) in params.lines.iter().enumerate().filter(|(_, line)| line.curves.is_empty()) {
            faults.push(ParamFault::new(format!("lines[{i}].curves"), "there is no curve"));
        }
        faults
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("figure", &[&["judging", "prompts.read", "stages.studio", "stages.tables", "world.subjects"]])
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        let base = context.maybe_input("base")?.map(|path| Scores::read(&path)).transpose()?;
        let lines = params
            .lines
            .iter()
            .map(|spec| {
                let before = timing::cost(context, &spec.after)?.unwrap_or_default();
                let parts = spec.curves.iter().map(|name| part(name, context)).collect::<Result<Vec<_>>>()?;
                Ok(Line::of(&spec.title, base.as_ref(), before, &parts, &params.columns))
            })
            .collect::<Result<Vec<Line>>>()?;
        let drawing = plot::plot(&params.title, &params.columns, &lines);
        let write = |port: &str, text: String| {
            std::fs::write(context.output(port), text).with_context(|| format!("writing `{port}`"))
        };
        write("csv", line::csv(&lines, &params.columns))?;
        write("svg", svg::svg(&drawing))?;
        pictures::write_png(&context.output("png"), &raster::raster(&drawing))
    }
}

/// The curves that a name stands for, one for each seed, and what they cost.
fn part(name: &str, context: &StageContext) -> Result<Part> {
    let inputs = seeds::connected(context, "curves", name, "the figure names")?;
    let curves = inputs.iter().map(|input| Curve::read(&context.input(input)?)).collect::<Result<_>>()?;
    let cost = timing::cost(context, &[vec![name.to_owned()]])?.unwrap_or_default();
    Ok(Part { curves, cost })
}
