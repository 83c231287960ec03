//! By how much one row differs from each other: over seeds, seed by seed.

use crate::judging::score::Scores;
use crate::report::seeds::{self, Cell};
use opdflow_io::{latex, markdown};
use serde::Serialize;

/// The scores of one name: a set for each seed, with the seeds if it is one of several.
#[derive(Clone, Debug)]
pub struct Judged {
    /// In the order of the seeds.
    pub scores: Vec<Scores>,
    /// The seeds; none of a stage that has one.
    pub seeds: Option<Vec<u64>>,
}

/// A difference of two means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The row's number less the other's.
    pub mean: f64,
    /// Half of its 95 % interval.
    pub half: f64,
}

/// The differences from one other row, a column each.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The other row's title.
    pub title: String,
    /// None where one of the two lacks the column.
    pub cells: Vec<Option<Difference>>,
    /// Whether both have the same seeds, so that each seed has a difference of its own.
    pub paired: bool,
}

/// The differences of one row from all others.
#[derive(Clone, Debug, Serialize)]
pub struct Differences {
    /// The row's title.
    pub of: String,
    /// The others, in the table's order.
    pub rows: Vec<Line>,
}

impl Differences {
    /// Those of the row at `of` from all other `rows`, each with its title, in these columns.
    #[must_use]
    pub fn of(rows: &[(&str, &Judged)], of: usize, columns: &[String]) -> Self {
        let (title, own) = rows[of];
        let line = |(title, other): (&str, &Judged)| {
            // Of one seed there is no interval over seeds.
            let paired = own.seeds.as_ref().is_some_and(|seeds| seeds.len() > 1) && own.seeds == other.seeds;
            let cells = columns.iter().map(|column| difference(own, other, column, paired)).collect();
            Line { title: title.to_owned(), cells, paired }
        };
        let others = rows.iter().enumerate().filter(|(place, _)| *place != of);
        Self { of: title.to_owned(), rows: others.map(|(_, row)| line(*row)).collect() }
    }

    /// As a table in Markdown, its columns under `heads`.
    #[must_use]
    pub fn markdown(&self, heads: &[&str]) -> String {
        use markdown::{Cell, Side};
        let text = format!("\n{} minus the others, {}:\n\n", markdown::code(&self.of), self.words(markdown::code));
        let heads = heads.iter().map(|head| (Cell::text(head), Side::Right));
        let first = (Cell::text(&format!("{} minus", self.of)), Side::Left);
        let mut table = markdown::Table::new(std::iter::once(first).chain(heads));
        for row in &self.rows {
            let cell = |cell: &Option<Difference>| {
                let Some(Difference { mean, half }) = cell else { return "–".to_owned() };
                let bold = if cell.is_some_and(|d| d.told()) { "**" } else { "" };
                format!("{bold}{mean:+.3}{bold} ± {half:.3}")
            };
            table.row(std::iter::once(Cell::text(&row.title)).chain(row.cells.iter().map(|c| Cell::markup(cell(c)))));
        }
        text + &table.finish()
    }

    /// As a `tabular` for booktabs, its columns under `heads`.
    #[must_use]
    pub fn latex(&self, heads: &[&str]) -> String {
        use latex::Cell;
        let about = format!("{} minus the others, {}", self.of, self.words(str::to_owned));
        let columns = format!("l{}", "r".repeat(heads.len()));
        let first = Cell::text(&format!("{} minus", self.of));
        let mut table =
            latex::Tabular::new(&about, &columns, std::iter::once(first).chain(heads.iter().map(|h| Cell::text(h))));
        for row in &self.rows {
            let cell = |cell: &Option<Difference>| {
                let Some(Difference { mean, half }) = cell else { return "--".to_owned() };
                let mean = format!("${mean:+.3}$");
                let mean = if cell.is_some_and(|d| d.told()) { format!("\\textbf{{{mean}}}") } else { mean };
                format!("{mean} $\\pm$ {half:.3}")
            };
            table.row(std::iter::once(Cell::text(&row.title)).chain(row.cells.iter().map(|c| Cell::markup(cell(c)))));
        }
        format!("\n{}", table.finish())
    }

    /// What the numbers are; `shown` writes a title.
    fn words(&self, shown: impl Fn(&str) -> String) -> String {
        let bold = "in bold where the interval does not hold 0";
        let unpaired: Vec<String> = self.rows.iter().filter(|row| !row.paired).map(|row| shown(&row.title)).collect();
        if unpaired.len() == self.rows.len() {
            return format!(
                "± half of a 95 % interval made of both rows' own, as if they had nothing in common; {bold}"
            );
        }
        let others = match unpaired.as_slice() {
            [] => String::new(),
            titles => format!(", from {} with both rows' own intervals", titles.join(", ")),
        };
        format!(
            "means over seeds of the differences seed by seed ± half of their 95 % interval (Student's t){others}; {bold}"
        )
    }
}

impl Difference {
    /// Whether its interval does not hold 0.
    #[must_use]
    pub fn told(&self) -> bool {
        self.mean.abs() > self.half
    }
}

fn difference(own: &Judged, other: &Judged, column: &str, paired: bool) -> Option<Difference> {
    if paired {
        let by_seed = |(own, other): (&Scores, &Scores)| Some(own.mean(column)?.mean - other.mean(column)?.mean);
        let each: Vec<f64> = own.scores.iter().zip(&other.scores).map(by_seed).collect::<Option<_>>()?;
        let (mean, half) = seeds::interval(&each);
        return Some(Difference { mean, half: half? });
    }
    let of = |row: &Judged| seeds::column(&row.scores, column);
    let (own, other): (Cell, Cell) = (of(own)?, of(other)?);
    Some(Difference { mean: own.mean - other.mean, half: own.half().hypot(other.half()) })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::judging::score::Mean;
    use std::collections::BTreeMap;

    fn judged(means: &[f64], seeds: Option<&[u64]>) -> Judged {
        let scores = |mean: &f64| {
            let column = BTreeMap::from([("ocr".to_owned(), Mean { mean: *mean, error: 0.01, n: 64 })]);
            Scores { sets: BTreeMap::from([("ocr".to_owned(), column)]) }
        };
        let scores = means.iter().map(scores).collect();
        Judged { scores, seeds: seeds.map(<[u64]>::to_vec) }
    }

    pub fn differences() -> Differences {
        let base = judged(&[0.5], None);
        let joint = judged(&[0.60, 0.70, 0.80], Some(&[1, 2, 3]));
        let student = judged(&[0.70, 0.81, 0.89], Some(&[1, 2, 3]));
        let other = judged(&[0.70, 0.80], Some(&[1, 2]));
        let rows = [("base", &base), ("joint", &joint), ("student", &student), ("other", &other)];
        Differences::of(&rows, 2, &["ocr".to_owned(), "geneval".to_owned()])
    }

    #[test]
    fn seed_by_seed_by_hand() {
        let found = differences();
        let titles: Vec<(&str, bool)> = found.rows.iter().map(|r| (r.title.as_str(), r.paired)).collect();
        assert_eq!(titles, [("base", false), ("joint", true), ("other", false)]);
        // .10, .11, .09: a standard deviation of .01, over the root of 3, times 4.303.
        let joint = found.rows[1].cells[0].unwrap();
        assert!((joint.mean - 0.10).abs() < 1e-12 && (joint.half - 0.024_841).abs() < 1e-5, "{joint:?}");
        assert!(joint.told() && found.rows[1].cells[1].is_none());
        // .80 with an interval of 4.303 x .05508, .237, less .5 with one of 1.96 x .01: the root of the sum of their squares.
        let base = found.rows[0].cells[0].unwrap();
        assert!((base.mean - 0.30).abs() < 1e-12 && (base.half - 0.237_78).abs() < 1e-4, "{base:?}");
        let text = found.markdown(&["ocr", "geneval"]);
        assert!(text.contains("| joint         | **+0.100** ± 0.025 |       – |"), "{text}");
        assert!(text.contains("seed by seed") && text.contains(", from `base`, `other` with both rows' own"), "{text}");
        let latex = found.latex(&["ocr", "geneval"]);
        assert!(latex.contains("joint & \\textbf{$+0.100$} $\\pm$ 0.025 & -- \\\\"), "{latex}");
    }

    /// Two rows may show the same scores, and a title is anybody's text.
    #[test]
    fn a_row_is_told_by_its_own_title() {
        let (base, student) = (judged(&[0.5, 0.6], Some(&[1, 2])), judged(&[0.7, 0.9], Some(&[1, 2])));
        let alone = judged(&[0.5], None);
        let rows = [("s", &student), ("base", &base), ("again", &base), ("<b>*x", &alone)];
        let found = Differences::of(&rows, 0, &["ocr".to_owned()]);
        let titles: Vec<&str> = found.rows.iter().map(|row| row.title.as_str()).collect();
        assert_eq!(titles, ["base", "again", "<b>*x"]);
        let text = found.markdown(&["ocr"]);
        assert!(text.contains("from `<b>*x` with") && !text.contains("| <b>*x"), "{text}");
    }

    #[test]
    fn of_one_seed_each_the_intervals_are_those_over_prompts() {
        for seeds in [None, Some([3].as_slice())] {
            let (base, student) = (judged(&[0.5], seeds), judged(&[0.52], seeds));
            let found = Differences::of(&[("base", &base), ("student", &student)], 1, &["ocr".to_owned()]);
            let only = found.rows[0].cells[0].unwrap();
            assert!((only.half - 1.96 * 0.01 * 2f64.sqrt()).abs() < 1e-4 && !only.told(), "{only:?}");
            assert!(found.markdown(&["ocr"]).contains("made of both rows' own"));
        }
    }
}
