//! `gradient_table` at work: what `gradient_variance` found, over several seeds.

use crate::artefacts::json;
use crate::report::seeds;
use anyhow::{Context as _, Result};
use opdflow_api::{Fault, StageContext};
use opdflow_io::csv;
use opdflow_io::markdown::{Cell, Side, Table};
use opdflow_kinds::stages::gradient_table::Params;
use serde::{Deserialize, Deserializer, Serialize};

/// A line of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub level: f64,
    pub objective: String,
    /// Length of the mean gradient, freed of what the variance adds to it; 0 where nothing is left.
    pub mean: f64,
    /// Square root of the trace of the covariance of one sample.
    pub spread: f64,
    /// `mean / spread`; undefined (NaN, `null` in JSON) where nothing scatters.
    #[serde(deserialize_with = "undefined")]
    pub signal: f64,
    /// Of the mean with that of the level's first objective.
    pub cosine: f64,
    pub samples: u64,
}

fn undefined<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(value)?.unwrap_or(f64::NAN))
}

/// A number for people as `text` writes it, or what stands for one that is undefined.
fn shown(value: f64, text: impl FnOnce(f64) -> String) -> String {
    if value.is_finite() { text(value) } else { "n/a".to_owned() }
}

/// The same for CSV, where an undefined number is an empty field.
fn field(value: f64, text: impl FnOnce(f64) -> String) -> String {
    if value.is_finite() { text(value) } else { String::new() }
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

/// Joins the tables of several seeds into one.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(_params: Params, context: &mut StageContext) -> Result<()> {
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
            let long = |v: f64| field(v, |v| format!("{v:.6e}"));
            cells.push(Cell::markup(match (half.filter(|_| mean.is_finite()), name) {
                _ if !mean.is_finite() => "n/a".to_owned(),
                (None, "mean" | "spread") => format!("{mean:.3e}"),
                (None, _) => format!("{mean:.3}"),
                (Some(half), "mean" | "spread") => format!("{mean:.3e} ± {half:.1e}"),
                (Some(half), _) => format!("{mean:.3} ± {half:.3}"),
            }));
            fields.extend([long(mean), half.map_or_else(String::new, long)]);
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
        let (level, cosine_long) = (level.to_string(), format!("{cosine:.6}"));
        let signal_long = field(*signal, |s| format!("{s:.6}"));
        let (mean_long, spread_long) = (format!("{mean:.6e}"), format!("{spread:.6e}"));
        csv.row([&level, objective, &mean_long, &spread_long, &signal_long, &cosine_long, &samples.to_string()]);
        let signal = shown(*signal, |s| format!("{s:.3}"));
        let numbers = [format!("{mean:.3e}"), format!("{spread:.3e}"), signal, format!("{cosine:.3}")];
        text.row([Cell::markup(level), Cell::text(objective)].into_iter().chain(numbers.map(Cell::markup)));
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
        // A gradient that does not scatter has no ratio, and comes back from JSON so.
        let still = Row { signal: f64::NAN, ..row(0.5) };
        let still: Row = serde_json::from_str(&serde_json::to_string(&still).unwrap()).unwrap();
        let (text, csv) = merged(&[vec![still.clone()], vec![row(0.6)]], &[still]);
        assert!(text.contains("| n/a |") && !text.contains("NaN") && !csv.contains("NaN"), "{text}{csv}");
        assert!(csv.contains(",,,"), "{csv}");
    }
}
