//! By how much one row differs from each other: seed by seed, or of one seed prompt by prompt.

use crate::judging::sample::Samples;
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
    /// What each image scored, of scores of one seed, if it is known.
    pub samples: Option<Samples>,
}

/// A difference of two means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The row's number less the other's.
    pub mean: f64,
    /// Half of its 95 % interval; none where there is but one prompt.
    pub half: Option<f64>,
}

/// What a difference is a mean over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairs {
    /// The differences of each seed.
    Seeds,
    /// Those of each prompt.
    Prompts,
}

/// The differences from one other row, a column each.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The other row's title.
    pub title: String,
    /// None where one of the two lacks the column.
    pub cells: Vec<Option<Difference>>,
    /// What both rows have in common; nothing where the interval is made of both rows' own.
    pub pairs: Option<Pairs>,
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
            let common = Common::of(own, other);
            let cells = columns.iter().map(|column| difference(own, other, column, &common)).collect();
            Line { title: title.to_owned(), cells, pairs: common.pairs() }
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
                format!("{bold}{mean:+.3}{bold} ± {}", shown(*half))
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
                format!("{mean} $\\pm$ {}", shown(*half))
            };
            table.row(std::iter::once(Cell::text(&row.title)).chain(row.cells.iter().map(|c| Cell::markup(cell(c)))));
        }
        format!("\n{}", table.finish())
    }

    /// What the numbers are; `shown` writes a title.
    fn words(&self, shown: impl Fn(&str) -> String) -> String {
        let of = |pairs: Option<Pairs>| -> Vec<String> {
            self.rows.iter().filter(|row| row.pairs == pairs).map(|row| shown(&row.title)).collect()
        };
        let ways = [
            (
                of(Some(Pairs::Seeds)),
                "means over seeds of the differences seed by seed ± half of their 95 % interval (Student's t)",
            ),
            (
                of(Some(Pairs::Prompts)),
                "means over prompts of the differences prompt by prompt ± half of their 95 % interval",
            ),
            (of(None), "± half of a 95 % interval made of both rows' own, as if they had nothing in common"),
        ];
        let mut found: Vec<String> = Vec::new();
        for (titles, words) in ways.into_iter().filter(|(titles, _)| !titles.is_empty()) {
            // Of the first way no rows are named: it is that of all whom no other way names.
            found.push(if found.is_empty() { words.to_owned() } else { format!("from {} {words}", titles.join(", ")) });
        }
        found.push("in bold where the interval does not hold 0".to_owned());
        found.join("; ")
    }
}

impl Difference {
    /// Whether its interval does not hold 0.
    #[must_use]
    pub fn told(&self) -> bool {
        self.half.is_some_and(|half| self.mean.abs() > half)
    }
}

fn shown(half: Option<f64>) -> String {
    half.map_or_else(|| "n/a".to_owned(), |half| format!("{half:.3}"))
}

/// What two rows have in common.
enum Common {
    /// The same seeds, several.
    Seeds,
    /// The same prompts, of one seed each: the scores of the differences image by image.
    Prompts(Scores),
    Nothing,
}

impl Common {
    fn of(own: &Judged, other: &Judged) -> Self {
        // Of one seed there is no interval over seeds.
        if own.scores.len() > 1 {
            return if own.seeds.is_some() && own.seeds == other.seeds { Self::Seeds } else { Self::Nothing };
        }
        let minus = |(own, other): (&Samples, &Samples)| own.minus(other);
        own.samples.as_ref().zip(other.samples.as_ref()).and_then(minus).map_or(Self::Nothing, Self::Prompts)
    }

    fn pairs(&self) -> Option<Pairs> {
        match self {
            Self::Seeds => Some(Pairs::Seeds),
            Self::Prompts(_) => Some(Pairs::Prompts),
            Self::Nothing => None,
        }
    }
}

fn difference(own: &Judged, other: &Judged, column: &str, common: &Common) -> Option<Difference> {
    let of = |row: &Judged| seeds::column(&row.scores, column);
    let (means, other_means): (Cell, Cell) = (of(own)?, of(other)?);
    let mean = means.mean - other_means.mean;
    let half = match common {
        Common::Seeds => {
            let by_seed = |(own, other): (&Scores, &Scores)| Some(own.mean(column)?.mean - other.mean(column)?.mean);
            let each: Vec<f64> = own.scores.iter().zip(&other.scores).map(by_seed).collect::<Option<_>>()?;
            seeds::interval(&each).1
        }
        Common::Prompts(differences) => seeds::column([differences], column)?.half(),
        Common::Nothing => means.half().zip(other_means.half()).map(|(own, other)| own.hypot(other)),
    };
    Some(Difference { mean, half })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::judging::sample::tests::samples;
    use crate::judging::score::Mean;
    use std::collections::BTreeMap;

    fn judged(means: &[f64], seeds: Option<&[u64]>) -> Judged {
        let scores = |mean: &f64| {
            let column = BTreeMap::from([("ocr".to_owned(), Mean { mean: *mean, error: 0.01, n: 64, images: None })]);
            Scores { sets: BTreeMap::from([("ocr".to_owned(), column)]) }
        };
        let scores = means.iter().map(scores).collect();
        Judged { scores, seeds: seeds.map(<[u64]>::to_vec), samples: None }
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
        let titles: Vec<(&str, Option<Pairs>)> = found.rows.iter().map(|r| (r.title.as_str(), r.pairs)).collect();
        assert_eq!(titles, [("base", None), ("joint", Some(Pairs::Seeds)), ("other", None)]);
        // .10, .11, .09: a standard deviation of .01, over the root of 3, times 4.303.
        let joint = found.rows[1].cells[0].unwrap();
        assert!((joint.mean - 0.10).abs() < 1e-12 && (joint.half.unwrap() - 0.024_841).abs() < 1e-5, "{joint:?}");
        assert!(joint.told() && found.rows[1].cells[1].is_none());
        // .80 with an interval of 4.303 x .05508, .237, less .5 with one of 1.96 x .01: the root of the sum of their squares.
        let base = found.rows[0].cells[0].unwrap();
        assert!((base.mean - 0.30).abs() < 1e-12 && (base.half.unwrap() - 0.237_78).abs() < 1e-4, "{base:?}");
        let text = found.markdown(&["ocr", "geneval"]);
        assert!(text.contains("| joint         | **+0.100** ± 0.025 |       – |"), "{text}");
        assert!(
            text.contains("seed by seed")
                && text.contains("; from `base`, `other` ± half of a 95 % interval made of both"),
            "{text}"
        );
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
        assert!(text.contains("from `<b>*x` ±") && !text.contains("| <b>*x"), "{text}");
    }

    #[test]
    fn of_one_seed_each_the_intervals_are_those_over_prompts() {
        for seeds in [None, Some([3].as_slice())] {
            let (base, student) = (judged(&[0.5], seeds), judged(&[0.52], seeds));
            let found = Differences::of(&[("base", &base), ("student", &student)], 1, &["ocr".to_owned()]);
            let only = found.rows[0].cells[0].unwrap();
            assert!((only.half.unwrap() - 1.96 * 0.01 * 2f64.sqrt()).abs() < 1e-4 && !only.told(), "{only:?}");
            assert!(found.markdown(&["ocr"]).contains("made of both rows' own"));
        }
    }

    /// The rows' own intervals hide a difference that each prompt shows.
    #[test]
    fn of_one_seed_each_the_same_prompts_are_compared() {
        let of = |mean: f64, each: [f64; 3], seeds: Option<&[u64]>| {
            let prompts = ["a", "b", "c"].into_iter().zip(each).collect::<Vec<_>>();
            Judged { samples: Some(samples("ocr", &prompts)), ..judged(&[mean], seeds) }
        };
        let (base, student) = (of(0.3, [0.0, 0.3, 0.6], None), of(0.32, [0.01, 0.32, 0.63], Some(&[42])));
        let other = Judged { samples: Some(samples("ocr", &[("d", 0.1)])), ..judged(&[0.3], None) };
        let rows = [("student", &student), ("base", &base), ("other", &other)];
        let found = Differences::of(&rows, 0, &["ocr".to_owned()]);
        // .01, .02, .03: a standard deviation of .01, over the root of 3, times 1.96.
        let only = found.rows[0].cells[0].unwrap();
        assert!((only.mean - 0.02).abs() < 1e-12 && (only.half.unwrap() - 0.011_316).abs() < 1e-5, "{only:?}");
        assert!(only.told() && !found.rows[1].cells[0].unwrap().told());
        assert_eq!([found.rows[0].pairs, found.rows[1].pairs], [Some(Pairs::Prompts), None]);
        let text = found.markdown(&["ocr"]);
        assert!(text.contains("prompt by prompt") && text.contains("; from `other` ±"), "{text}");
    }

    #[test]
    fn of_one_prompt_nothing_is_told() {
        let mut one = judged(&[0.5], None);
        for mean in one.scores[0].sets.values_mut().flat_map(|set| set.values_mut()) {
            (mean.error, mean.n) = (0.0, 1);
        }
        let found = Differences::of(&[("one", &one), ("other", &judged(&[0.9], None))], 0, &["ocr".to_owned()]);
        assert!(found.rows[0].cells[0].is_some_and(|cell| cell.half.is_none() && !cell.told()));
        assert!(found.markdown(&["ocr"]).contains("-0.400 ± n/a"));
    }
}
