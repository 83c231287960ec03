//! Published numbers beside ours: does each column order the rows as the publication does?

use super::row::Row;
use opdflow_io::markdown::code;
use opdflow_kinds::stages::table::published::{Published, SECONDS};
use serde::Serialize;

/// The same, held against ours.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub source: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Line>,
}

/// One column.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// Ours.
    pub column: String,
    /// What it is called there.
    pub published: String,
    /// Pairs of rows whose published numbers differ and which have both numbers here.
    pub pairs: usize,
    /// Those that are in the same order here.
    pub alike: usize,
    /// Those whose order here may be chance, the one that is higher there first.
    pub not_told_apart: Vec<[String; 2]>,
    /// Those that are in the other order here, the one that is higher there first.
    pub otherwise: Vec<[String; 2]>,
}

/// One row: of each column the published number and ours.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub title: String,
    pub cells: Vec<(Option<f64>, Option<f64>)>,
}

/// A number of ours with half of its 95 % interval.
#[derive(Clone, Copy)]
struct Ours {
    value: f64,
    half: f64,
}

/// Holds published numbers against the rows. `names`: each row's name on `scores`; `columns`: those of its cells.
pub fn compare(published: &Published, names: &[&str], columns: &[String], rows: &[Row]) -> Comparison {
    let order = std::iter::once(SECONDS).chain(columns.iter().map(String::as_str));
    let wanted: Vec<&str> = order.filter(|c| published.columns.contains_key(*c)).collect();
    let ours = |row: &Row, column: &str| match columns.iter().position(|c| c == column) {
        Some(place) => row.cells[place].map(|c| Ours { value: c.mean, half: c.half().unwrap_or(f64::INFINITY) }),
        None => row.seconds.map(|value| Ours { value, half: 0.0 }),
    };
    let theirs = |name: &str, column: &str| published.rows.get(name)?.get(column).copied();
    let mut found: Vec<Column> = Vec::new();
    for &column in &wanted {
        let known: Vec<(&str, f64, Ours)> = names
            .iter()
            .zip(rows)
            .filter_map(|(name, row)| Some((row.title.as_str(), theirs(name, column)?, ours(row, column)?)))
            .collect();
        found.push(order_of(column, &published.columns[column], &known));
    }
    let lines =
        names.iter().zip(rows).filter(|(name, _)| published.rows.contains_key(**name)).map(|(name, row)| Line {
            title: row.title.clone(),
            cells: wanted.iter().map(|c| (theirs(name, c), ours(row, c).map(|o| o.value))).collect(),
        });
    Comparison { source: published.source.clone(), columns: found, rows: lines.collect() }
}

/// Compares all pairs of one column's rows: title, published number, ours.
fn order_of(column: &str, name: &str, known: &[(&str, f64, Ours)]) -> Column {
    let mut found = Column {
        column: column.to_owned(),
        published: name.to_owned(),
        pairs: 0,
        alike: 0,
        not_told_apart: Vec::new(),
        otherwise: Vec::new(),
    };
    for (i, a) in known.iter().enumerate() {
        for b in &known[i + 1..] {
            let (high, low) = if a.1 > b.1 { (a, b) } else { (b, a) };
            // Equal numbers there are in no order.
            if high.1 <= low.1 {
                continue;
            }
            found.pairs += 1;
            let gain = high.2.value - low.2.value;
            let pair = || [high.0.to_owned(), low.0.to_owned()];
            if gain.abs() <= high.2.half.hypot(low.2.half) {
                found.not_told_apart.push(pair());
            } else if gain > 0.0 {
                found.alike += 1;
            } else {
                found.otherwise.push(pair());
            }
        }
    }
    found
}

impl Column {
    /// In words, as Markdown: how many pairs are in the same order, and which are not.
    pub fn words(&self) -> String {
        let mut text = format!("{} of {} pairs of rows are in the same order", self.alike, self.pairs);
        if !self.not_told_apart.is_empty() {
            text += &format!("; not told apart: {}", self.not_told_apart.len());
        }
        if !self.otherwise.is_empty() {
            let pairs: Vec<String> =
                self.otherwise.iter().map(|[high, low]| format!("{} < {}", code(high), code(low))).collect();
            text += &format!("; the other way round here: {}", pairs.join(", "));
        }
        text
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::form::Form;
    use super::super::form::tests::form;
    use super::*;

    pub fn published() -> Published {
        serde_json::from_value(serde_json::json!({
            "source": "A paper, table 1",
            "columns": {"geneval": "GenEval", "seconds": "hours"},
            "rows": {
                "base": {"geneval": 0.24},
                "ocr": {"geneval": 0.65, "seconds": 33.0},
                "student": {"geneval": 0.64, "seconds": 97.0}
            }
        }))
        .unwrap()
    }

    pub fn compared() -> Form {
        let mut form = form();
        let names = ["base", "ocr", "student"];
        form.published = Some(compare(&published(), &names, &form.columns, &form.rows));
        form
    }

    /// Ours: base 0.4, ocr 0.4, student 0.6, each with a standard error of 0.01.
    #[test]
    fn orders_by_hand() {
        let found = compared().published.unwrap();
        let names: Vec<&str> = found.columns.iter().map(|c| c.published.as_str()).collect();
        assert_eq!(names, ["hours", "GenEval"]);
        assert_eq!((found.columns[0].pairs, found.columns[0].alike), (1, 1));
        let geneval = &found.columns[1];
        assert_eq!((geneval.pairs, geneval.alike), (3, 1));
        assert_eq!(geneval.not_told_apart, [["ocr_teacher", "base"].map(str::to_owned)]);
        assert_eq!(geneval.otherwise, [["ocr_teacher", "student"].map(str::to_owned)]);
        assert_eq!(
            geneval.words(),
            "1 of 3 pairs of rows are in the same order; not told apart: 1; the other way round here: `ocr_teacher` < `student`"
        );
        assert_eq!(found.rows[1].cells, [(Some(33.0), Some(61.4)), (Some(0.65), Some(0.4))]);
    }

    #[test]
    fn equal_numbers_there_are_in_no_order() {
        let same = |title, value| (title, 0.96, Ours { value, half: 0.0 });
        assert_eq!(order_of("a", "A", &[same("x", 0.1), same("y", 0.9)]).pairs, 0);
    }

    #[test]
    fn a_difference_within_both_intervals_is_not_told_apart() {
        let row = |title, published, value| (title, published, Ours { value, half: 0.03 });
        let near = order_of("a", "A", &[row("x", 0.1, 0.50), row("y", 0.2, 0.54)]);
        assert_eq!((near.alike, near.not_told_apart.len()), (0, 1));
        let far = order_of("a", "A", &[row("x", 0.1, 0.50), row("y", 0.2, 0.55)]);
        assert_eq!((far.alike, far.not_told_apart.len()), (1, 0));
    }
}
