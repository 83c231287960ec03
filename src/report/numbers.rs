//! The numbers of a table: what its JSON has, the published ones beside them, and the stages that each row was read from.

use super::Summary;
use crate::plan::lineage::{Read, beside, inputs};
use opdflow_api::cache::{ActionRecord, Digest};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    /// Its stage.
    pub stage: String,
    /// Its title.
    pub title: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// Its rows.
    pub rows: Vec<Row>,
    /// The row that the others are measured against, if there are others.
    pub base: Option<usize>,
    /// The publication whose numbers stand beside ours; empty if there is none.
    pub source: String,
}

/// A row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Its title.
    pub title: String,
    /// By column.
    pub cells: Vec<Option<Cell>>,
    /// The published numbers, by column.
    pub published: Vec<Option<f64>>,
    /// The stages whose outputs it was read from.
    pub stages: Vec<String>,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Cell {
    /// The mean.
    pub mean: f64,
    /// Its standard error, over prompts or, of several seeds, over seeds.
    pub error: f64,
    /// Prompts.
    pub n: usize,
    /// Seeds, if several.
    #[serde(default)]
    pub seeds: Option<usize>,
    /// Half of the 95 % interval over seeds, if there are several.
    #[serde(default)]
    pub interval: Option<f64>,
}

/// The 97.5 % point of the normal distribution.
pub(super) const NORMAL: f64 = 1.959964;

impl Cell {
    /// Half of the mean's 95 % interval. Of one prompt there is none.
    #[must_use]
    pub fn half(&self) -> Option<f64> {
        self.interval.or_else(|| (self.n > 1).then_some(NORMAL * self.error))
    }

    /// This less the other, and half of the 95 % interval of that as if both were independent, if both have one.
    #[must_use]
    pub fn less(&self, other: &Self) -> (f64, Option<f64>) {
        (self.mean - other.mean, self.half().zip(other.half()).map(|(own, theirs)| own.hypot(theirs)))
    }
}

/// What the JSON of a table has, as far as it is read here.
#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    title: String,
    columns: Vec<String>,
    rows: Vec<FormRow>,
}

#[derive(Deserialize)]
struct FormRow {
    title: String,
    cells: Vec<Value>,
}

/// A row's name on the inputs, and what is printed.
fn named(params: &Value) -> impl Iterator<Item = (&str, &str)> {
    let rows = params["rows"].as_array().into_iter().flatten();
    rows.filter_map(|row| Some((row["scores"].as_str()?, row["title"].as_str()?)))
}

impl Numbers {
    /// The table that the stage `stage` of a run left as this JSON; nothing if it is no table.
    #[must_use]
    pub fn read(json: &[u8], stage: &str, record: &ActionRecord, run: &Summary) -> Option<Self> {
        let form: Form = serde_json::from_slice(json).ok()?;
        let wide = form.columns.len();
        if form.rows.is_empty() || form.rows.iter().any(|row| row.cells.len() != wide) {
            return None;
        }
        let params = record.manifest.get("params").unwrap_or(&Value::Null);
        let names: BTreeMap<&str, &str> = named(params).map(|(scores, title)| (title, scores)).collect();
        let published = &params["published"];
        let reads = reads(record);
        let makers = makers(stage, run);
        let row = |row: FormRow| {
            let of = |column: &String| published["rows"][*names.get(row.title.as_str())?][column].as_f64();
            let ports = beside(record, &row.title, &reads);
            let mut stages = Vec::new();
            for read in reads.iter().filter(|r| ports.contains(&r.port)) {
                let from = makers.get(&read.digest).copied().filter(|s| !stages.iter().any(|known| known == s));
                stages.extend(from.map(ToOwned::to_owned));
            }
            Row {
                cells: row.cells.into_iter().map(|cell| serde_json::from_value(cell).ok()).collect(),
                published: form.columns.iter().map(of).collect(),
                stages,
                title: row.title,
            }
        };
        let rows: Vec<Row> = form.rows.into_iter().map(row).collect();
        let base = params["kept"]["base"].as_str();
        let base = base.and_then(|base| rows.iter().position(|r| names.get(r.title.as_str()) == Some(&base)));
        Some(Self {
            stage: stage.to_owned(),
            title: form.title,
            base: base.or(Some(0)).filter(|_| rows.len() > 1),
            source: published["source"].as_str().unwrap_or_default().to_owned(),
            columns: form.columns,
            rows,
        })
    }

    /// The largest mean of a column; every number is the better the larger it is.
    #[must_use]
    pub fn best(&self, column: usize) -> Option<f64> {
        let all = self.rows.iter().filter_map(|row| row.cells.get(column)?.map(|cell| cell.mean));
        all.reduce(f64::max).filter(|_| self.rows.len() > 1)
    }

    /// The largest number of seeds that a number stands for.
    #[must_use]
    pub fn seeds(&self) -> usize {
        self.rows.iter().flat_map(|row| row.cells.iter().flatten()).filter_map(|cell| cell.seeds).max().unwrap_or(1)
    }
}

/// What the stage of a record read.
fn reads(record: &ActionRecord) -> Vec<Read> {
    inputs(record).map(|(port, digest)| Read { port: port.clone(), digest, from: None }).collect()
}

/// By digest the stage that it comes from, of those that `stage` reads.
fn makers<'s>(stage: &str, run: &'s Summary) -> BTreeMap<Digest, &'s str> {
    let Some(line) = run.started.stages.iter().find(|s| s.name == stage) else { return BTreeMap::new() };
    let needed = line.needs.iter().filter_map(|name| run.stage(name));
    needed.flat_map(|s| s.outputs.values().map(move |digest| (*digest, s.name.as_str()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{StageSummary, Standing};
    use crate::runlog::StageLine;
    use serde_json::json;

    fn digest(byte: u8) -> Digest {
        format!("{byte:02x}").repeat(32).parse().unwrap()
    }

    fn record(params: &Value) -> ActionRecord {
        let manifest = json!({"params": params, "inputs": {"scores.b": digest(1), "scores.s": digest(2)}});
        serde_json::from_value(json!({"format": 1, "key": digest(9), "lineage": digest(9), "manifest": manifest,
            "outputs": {}, "seconds": 1.0, "finished": "", "note": {}}))
        .unwrap()
    }

    fn run() -> Summary {
        let stage = |name: &str, made: u8| StageSummary {
            name: name.into(),
            state: Standing::Run,
            outputs: [("scores".to_owned(), digest(made))].into(),
            ..Default::default()
        };
        let mut run = Summary { stages: vec![stage("base_scores", 1), stage("ours", 2)], ..Default::default() };
        let needs = vec!["base_scores".to_owned(), "ours".to_owned()];
        run.started.stages = vec![StageLine { name: "table".into(), kind: "table".into(), needs }];
        run
    }

    #[test]
    fn a_row_has_its_numbers_the_published_ones_and_its_stages() {
        let params = json!({"rows": [{"scores": "b", "title": "base"}, {"scores": "s", "title": "student"}],
            "published": {"source": "a paper", "rows": {"s": {"ocr": 0.94}}}});
        let text = json!({"title": "T", "columns": ["ocr", "looks"], "rows": [
            {"title": "base", "cells": [{"mean": 0.5, "error": 0.03, "n": 10}, null]},
            {"title": "student", "cells": [{"mean": 0.8, "error": 0.01, "n": 10, "seeds": 5, "interval": 0.04}, {"mean": null, "error": 0.0, "n": 1}]}]});
        let found = Numbers::read(text.to_string().as_bytes(), "table", &record(&params), &run()).unwrap();
        assert_eq!((found.base, found.source.as_str(), found.seeds()), (Some(0), "a paper", 5));
        assert_eq!(found.rows[1].published, [Some(0.94), None]);
        assert_eq!(
            (found.rows[0].stages.as_slice(), found.rows[1].stages.as_slice()),
            (["base_scores".to_owned()].as_slice(), ["ours".to_owned()].as_slice())
        );
        assert!(found.rows[1].cells[1].is_none(), "what is no number is none");
        assert_eq!((found.best(0), found.best(1)), (Some(0.8), None));
        let (ours, base) = (found.rows[1].cells[0].unwrap(), found.rows[0].cells[0].unwrap());
        let (difference, half) = ours.less(&base);
        // 1.96 x 0.03 = 0.0588 and 0.04: the root of the sum of squares is 0.0711.
        assert!((difference - 0.3).abs() < 1e-12 && (half.unwrap() - 0.0711).abs() < 1e-4, "{difference} {half:?}");
        let alone = Cell { error: 0.0, n: 1, ..base };
        assert_eq!((alone.half(), ours.less(&alone).1), (None, None), "one prompt tells nothing of others");
    }

    #[test]
    fn what_is_no_table_is_none() {
        let record = record(&json!({}));
        for text in [
            "",
            "{}",
            "[1]",
            r#"{"columns": ["a"], "rows": []}"#,
            r#"{"columns": ["a"], "rows": [{"title": "x", "cells": []}]}"#,
        ] {
            assert_eq!(Numbers::read(text.as_bytes(), "table", &record, &run()), None, "{text}");
        }
        let one = Numbers::read(
            br#"{"columns": ["a"], "rows": [{"title": "x", "cells": [null]}]}"#,
            "table",
            &record,
            &run(),
        );
        assert_eq!(one.unwrap().base, None, "one row has nothing to be measured against");
    }
}
