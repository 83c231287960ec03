//! The numbers of a figure: for each method its scores, and what its training had cost by then.

use crate::artefacts::curve::Curve;
use crate::artefacts::timing::Timing;
use crate::judging::score::Scores;
use crate::report::seeds;
use crate::report::seeds::Cell;
use opdflow_io::csv::Table;

/// One training of a line: its curve of each seed, and its whole cost.
pub struct Phase {
    pub curves: Vec<Curve>,
    pub cost: Timing,
}

/// A method.
#[derive(Clone, Debug)]
pub struct Line {
    pub title: String,
    pub points: Vec<Spot>,
}

/// A model during its training.
#[derive(Clone, Debug)]
pub struct Spot {
    /// Rounds of this line.
    pub step: u64,
    /// What was trained until here, all that went before included.
    pub seconds: f64,
    pub gradients: u64,
    /// By column; none where the scores lack it.
    pub cells: Vec<Option<Cell>>,
}

impl Line {
    /// The line of trainings that follow one another, after `before`. It begins with the base's scores, if they are known.
    pub fn of(title: &str, base: Option<&Scores>, before: Timing, parts: &[Phase], columns: &[String]) -> Self {
        let mut points = Vec::new();
        let cells = |scores: &[&Scores]| -> Vec<Option<Cell>> {
            columns.iter().map(|column| seeds::column(scores.iter().copied(), column)).collect()
        };
        let (mut step, mut spent) = (0, before);
        if let Some(base) = base {
            let Timing { seconds, gradients, .. } = spent;
            points.push(Spot { step, seconds, gradients, cells: cells(&[base]) });
        }
        for part in parts {
            let Some((first, others)) = part.curves.split_first() else { continue };
            let end = first.points.last().map_or(1, |p| p.step.max(1));
            for point in &first.points {
                // All seeds were scored at the same steps.
                let same = |curve: &'_ Curve| curve.points.iter().position(|p| p.step == point.step);
                let mut scores = vec![&point.scores];
                scores.extend(others.iter().filter_map(|c| Some(&c.points[same(c)?].scores)));
                let share = point.step as f64 / end as f64;
                points.push(Spot {
                    step: step + point.step,
                    seconds: spent.seconds + share * part.cost.seconds,
                    gradients: spent.gradients + (share * part.cost.gradients as f64).round() as u64,
                    cells: cells(&scores),
                });
            }
            step += end;
            spent.seconds += part.cost.seconds;
            spent.gradients += part.cost.gradients;
        }
        Self { title: title.to_owned(), points }
    }
}

/// RFC 4180: `method,step,seconds,gradients` and the columns, and with several seeds half of each column's interval.
pub fn csv(lines: &[Line], columns: &[String]) -> String {
    let cells = || lines.iter().flat_map(|l| &l.points).flat_map(|p| p.cells.iter().flatten());
    let several = cells().any(|c| c.seeds.is_some());
    let mut heads: Vec<String> = ["method", "step", "seconds", "gradients"].map(str::to_owned).to_vec();
    heads.extend(columns.iter().cloned());
    if several {
        heads.extend(columns.iter().map(|c| format!("{c}.interval")));
    }
    let mut table = Table::new(heads);
    let number = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.6}"));
    for (line, spot) in lines.iter().flat_map(|l| l.points.iter().map(move |p| (l, p))) {
        let mut row = vec![line.title.clone(), spot.step.to_string(), format!("{:.1}", spot.seconds)];
        row.push(spot.gradients.to_string());
        row.extend(spot.cells.iter().map(|c| number(c.map(|c| c.mean))));
        if several {
            row.extend(spot.cells.iter().map(|c| number(c.and_then(|c| c.interval))));
        }
        table.row(row);
    }
    table.finish()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::artefacts::curve::Point;
    use crate::judging::score::Mean;
    use std::collections::BTreeMap;

    fn scores(value: f64) -> Scores {
        let mean = Mean { mean: value, error: 0.01, n: 64 };
        Scores { sets: BTreeMap::from([("ocr".to_owned(), BTreeMap::from([("ocr".to_owned(), mean)]))]) }
    }

    fn curve(points: &[(u64, f64)]) -> Curve {
        Curve { points: points.iter().map(|(step, v)| Point { step: *step, scores: scores(*v) }).collect() }
    }

    /// A cascade of two trainings, and a student of two seeds after teachers of 80 seconds.
    pub fn lines() -> Vec<Line> {
        let cost = |seconds, gradients| Timing { seconds, gradients, ..Timing::default() };
        let (base, columns) = (scores(0.5), ["ocr".to_owned()]);
        let first = Phase { curves: vec![curve(&[(10, 0.55), (20, 0.6)])], cost: cost(100.0, 2000) };
        let second = Phase { curves: vec![curve(&[(5, 0.7)])], cost: cost(30.0, 500) };
        let seeds = vec![curve(&[(50, 0.8), (100, 0.9)]), curve(&[(50, 0.84), (100, 0.94)])];
        let student = Phase { curves: seeds, cost: cost(40.0, 1000) };
        vec![
            Line::of("cascade, NFT", Some(&base), Timing::default(), &[first, second], &columns),
            Line::of("student", Some(&base), cost(80.0, 3000), &[student], &columns),
        ]
    }

    #[test]
    fn time_adds_up_along_a_line() {
        let lines = lines();
        let spots = |line: &Line| line.points.iter().map(|p| (p.step, p.seconds, p.gradients)).collect::<Vec<_>>();
        assert_eq!(spots(&lines[0]), [(0, 0.0, 0), (10, 50.0, 1000), (20, 100.0, 2000), (25, 130.0, 2500)]);
        assert_eq!(spots(&lines[1]), [(0, 80.0, 3000), (50, 100.0, 3500), (100, 120.0, 4000)]);
        let last = lines[1].points[2].cells[0].unwrap();
        assert!((last.mean - 0.92).abs() < 1e-12 && last.interval.unwrap() > 0.2, "{last:?}");
    }

    #[test]
    fn a_line_a_candidate() {
        let text = csv(&lines(), &["ocr".to_owned()]);
        assert!(
            text.starts_with("method,step,seconds,gradients,ocr,ocr.interval\n\"cascade, NFT\",0,0.0,0,0.500000,\n"),
            "{text}"
        );
        assert!(text.contains("\nstudent,50,100.0,3500,0.820000,0.2541"), "{text}");
        assert_eq!(text.lines().count(), 1 + 4 + 3);
    }
}
