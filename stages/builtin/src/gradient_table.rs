//! `gradient_table`: what `gradient_variance` found, over several seeds.

use crate::{csv, json, seeds};
use anyhow::{Context as _, Result};
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{Description, Fault, Stage, StageContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The stage kind.
pub struct GradientTable;

/// It takes none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {}

/// A line of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub level: f64,
    pub objective: String,
    /// Length of the mean gradient, freed of what the variance adds to it; 0 where nothing is left.
    pub mean: f64,
    /// Square root of the trace of the covariance of one sample.
    pub spread: f64,
    /// `mean / spread`.
    pub signal: f64,
    /// Of the mean with that of the level's first objective.
    pub cosine: f64,
    pub samples: u64,
}

/// A column: its name, and its number in a line.
type Measure = (&'static str, fn(&Row) -> f64);

/// What is measured, in the order of the columns.
const MEASURES: [Measure; 4] =
    [("mean", |r| r.mean), ("spread", |r| r.spread), ("signal", |r| r.signal), ("cosine", |r| r.cosine)];

const HEAD: &str = "| noise level | objective | length of the mean | spread | mean / spread | cosine of the means |
|---:|---|---:|---:|---:|---:|
";

impl Stage for GradientTable {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "gradient_table",
            semantics: 1,
            about: "The tables of `gradient_variance` of several seeds as one: means, with half of their 95 % interval (Student's t).",
            inputs: const { &[Input::many("gradients", &["json"], "tables of `gradient_variance`, all of the same lines")] },
            outputs: const {
                &[
                    Output::new("markdown", "markdown", "the table"),
                    Output::new("csv", "csv", "the table, intervals in columns of their own"),
                ]
            },
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }

    fn run(&self, _params: Params, context: &mut StageContext) -> Result<()> {
        let read = |name: &String| json::read(&context.input(&format!("gradients.{name}"))?, "table of gradients");
        let tables: Vec<Vec<Row>> = context.names("gradients").iter().map(read).collect::<Result<_>>()?;
        let lines = |table: &[Row]| table.iter().map(|r| (r.level.to_bits(), r.objective.clone())).collect::<Vec<_>>();
        let first = tables.first().context("no table on a port that needs one")?;
        if tables.iter().any(|t| lines(t) != lines(first)) {
            let fault = Fault::user("these tables have other levels or objectives than each other");
            return Err(fault.help("connect tables of one `gradient_variance` over its seeds").into());
        }
        let (text, csv) = merged(&tables, first);
        leave(context, text, csv)
    }
}

/// Tables of the same lines as one, as Markdown and as CSV.
fn merged(tables: &[Vec<Row>], first: &[Row]) -> (String, String) {
    let (mut text, mut csv) = (HEAD.to_owned(), "level,objective".to_owned());
    for (name, _) in MEASURES {
        let _ = write!(csv, ",{name},{name}_half");
    }
    csv += ",seeds\n";
    for (i, line) in first.iter().enumerate() {
        let _ = write!(text, "| {} | {} |", line.level, line.objective);
        let _ = write!(csv, "{},{}", line.level, csv::quoted(&line.objective));
        for (name, of) in MEASURES {
            let values: Vec<f64> = tables.iter().map(|t| of(&t[i])).collect();
            let (mean, half) = seeds::interval(&values);
            let _ = match (half, name) {
                (None, "mean" | "spread") => write!(text, " {mean:.3e} |"),
                (None, _) => write!(text, " {mean:.3} |"),
                (Some(half), "mean" | "spread") => write!(text, " {mean:.3e} ± {half:.1e} |"),
                (Some(half), _) => write!(text, " {mean:.3} ± {half:.3} |"),
            };
            let half = half.map_or_else(String::new, |h| format!("{h:.6e}"));
            let _ = write!(csv, ",{mean:.6e},{half}");
        }
        text.push('\n');
        let _ = writeln!(csv, ",{}", tables.len());
    }
    (text, csv)
}

/// Leaves one table on the ports `markdown`, `csv` and `json`.
///
/// # Errors
/// The disk is full.
pub fn write(context: &StageContext, rows: &[Row]) -> Result<()> {
    let mut csv = "level,objective,mean,spread,signal,cosine,samples\n".to_owned();
    let mut text = HEAD.to_owned();
    for Row { level, objective, mean, spread, signal, cosine, samples } in rows {
        writeln!(csv, "{level},{objective},{mean:.6e},{spread:.6e},{signal:.6},{cosine:.6},{samples}")?;
        writeln!(text, "| {level} | {objective} | {mean:.3e} | {spread:.3e} | {signal:.3} | {cosine:.3} |")?;
    }
    leave(context, text, csv)?;
    json::write(&context.output("json"), &rows)
}

fn leave(context: &StageContext, text: String, csv: String) -> Result<()> {
    for (port, content) in [("markdown", text), ("csv", csv)] {
        std::fs::write(context.output(port), content).with_context(|| format!("writing the output `{port}`"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_become_a_mean_with_its_interval() {
        let row = |mean: f64| Row { level: 0.1, objective: "closed form".into(), mean, signal: 2.0, ..Row::default() };
        let (text, csv) = merged(&[vec![row(0.5)], vec![row(0.6)], vec![row(0.7)]], &[row(0.5)]);
        assert!(text.contains("| 0.1 | closed form | 6.000e-1 ± 2.5e-1 |") && text.contains("2.000 ± 0.000"), "{text}");
        assert!(csv.ends_with(",3\n") && csv.contains("mean,mean_half"), "{csv}");
        let (text, _) = merged(&[vec![row(0.5)]], &[row(0.5)]);
        assert!(text.contains("| 5.000e-1 |") && !text.contains('±'), "{text}");
    }
}
