//! `gradient_table`: what `gradient_variance` found, over several seeds.

use crate::{json, seeds};
use anyhow::{Context as _, Result};
use opdflow_io::csv;
use opdflow_io::markdown::{Cell, Side, Table};
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{Description, Fault, Stage, StageContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// The columns of the Markdown table.
const HEAD: [(&str, Side); 6] = [
    ("noise level", Side::Right),
    ("objective", Side::Left),
    ("length of the mean", Side::Right),
    ("spread", Side::Right),
    ("mean / spread", Side::Right),
    ("cosine of the means", Side::Right),
];

fn table() -> Table {
    Table::new(HEAD.map(|(name, side)| (Cell::text(name), side))).compact()
}

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
            params: &[],
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
    let mut heads = vec!["level".to_owned(), "objective".to_owned()];
    heads.extend(MEASURES.iter().flat_map(|(name, _)| [(*name).to_owned(), format!("{name}_half")]));
    heads.push("seeds".to_owned());
    let (mut text, mut csv) = (table(), csv::Table::new(heads));
    for (i, line) in first.iter().enumerate() {
        let mut cells = vec![Cell::markup(line.level.to_string()), Cell::text(&line.objective)];
        let mut fields = vec![line.level.to_string(), line.objective.clone()];
        for (name, of) in MEASURES {
            let values: Vec<f64> = tables.iter().map(|t| of(&t[i])).collect();
            let (mean, half) = seeds::interval(&values);
            cells.push(Cell::markup(match (half, name) {
                (None, "mean" | "spread") => format!("{mean:.3e}"),
                (None, _) => format!("{mean:.3}"),
                (Some(half), "mean" | "spread") => format!("{mean:.3e} ± {half:.1e}"),
                (Some(half), _) => format!("{mean:.3} ± {half:.3}"),
            }));
            fields.extend([format!("{mean:.6e}"), half.map_or_else(String::new, |h| format!("{h:.6e}"))]);
        }
        fields.push(tables.len().to_string());
        text.row(cells);
        csv.row(fields);
    }
    (text.finish(), csv.finish())
}

/// Leaves one table on the ports `markdown`, `csv` and `json`.
///
/// # Errors
/// The disk is full.
pub fn write(context: &StageContext, rows: &[Row]) -> Result<()> {
    let mut csv = csv::Table::new(["level", "objective", "mean", "spread", "signal", "cosine", "samples"]);
    let mut text = table();
    for Row { level, objective, mean, spread, signal, cosine, samples } in rows {
        let (level, numbers) = (level.to_string(), [signal, cosine].map(|v| format!("{v:.6}")));
        let [signal_long, cosine_long] = numbers;
        let (mean_long, spread_long) = (format!("{mean:.6e}"), format!("{spread:.6e}"));
        csv.row([&level, objective, &mean_long, &spread_long, &signal_long, &cosine_long, &samples.to_string()]);
        let shown = [format!("{mean:.3e}"), format!("{spread:.3e}"), format!("{signal:.3}"), format!("{cosine:.3}")];
        text.row([Cell::markup(level), Cell::text(objective)].into_iter().chain(shown.map(Cell::markup)));
    }
    let (text, csv) = (text.finish(), csv.finish());
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
