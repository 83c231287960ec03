//! The numbers of a figure: for each method its scores, and what its training had cost by then.

use crate::artefacts::curve::Curve;
use crate::artefacts::timing::Timing;
use crate::judging::score::Scores;
use crate::report::seeds;
use crate::report::seeds::Cell;
use anyhow::Result;
use opdflow_api::Fault;
use opdflow_io::csv::Table;

/// One training of a line: the curve and the whole cost of each seed, or of the only one.
pub struct Phase {
    pub seeds: Vec<(Curve, Timing)>,
}

impl Phase {
    /// Of what `name` stands for. One timing is that of all curves.
    ///
    /// # Errors
    /// As many timings as fit neither one nor each of the curves.
    pub fn of(name: &str, curves: Vec<Curve>, costs: &[Timing]) -> Result<Self> {
        if costs.len() != 1 && costs.len() != curves.len() {
            let message = format!("`{name}` has {} curves and {} timings", curves.len(), costs.len());
            return Err(Fault::user(message).help("connect both for the same seeds").into());
        }
        let each = costs.iter().copied().cycle();
        Ok(Self { seeds: curves.into_iter().zip(each).collect() })
    }
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
    /// Likewise; none where a training before did not count.
    pub operations: Option<f64>,
    /// By column; none where the scores lack it.
    pub cells: Vec<Option<Cell>>,
}

impl Line {
    /// The line of trainings that follow one another, after `before`, which is of each seed or of the only one. It begins with the base's
    /// scores, if they are known.
    ///
    /// A point is a mean over all seeds: of the candidates after as many rounds, where each seed has one, and of each seed's last, for trainings
    /// that end by a rule end after different rounds.
    pub fn of(title: &str, base: Option<&Scores>, before: &[Timing], parts: &[Phase], columns: &[String]) -> Self {
        let cells = |scores: &[&Scores]| -> Vec<Option<Cell>> {
            columns.iter().map(|column| seeds::column(scores.iter().copied(), column)).collect()
        };
        let runs = parts.iter().map(|p| p.seeds.len()).max().unwrap_or(1).max(before.len());
        let mut spent: Vec<Spent> = (0..runs).map(|run| Spent::of(before.get(run).or(before.first()))).collect();
        let mut points = Vec::new();
        if let Some(base) = base {
            points.push(Spot::of(&spent, cells(&[base])));
        }
        for part in parts {
            let Some(only) = part.seeds.first() else { continue };
            let own: Vec<&(Curve, Timing)> = (0..runs).map(|run| part.seeds.get(run).unwrap_or(only)).collect();
            let after = |at: &dyn Fn(&Curve) -> Option<usize>| -> Option<Spot> {
                let found: Vec<usize> = own.iter().map(|(curve, _)| at(curve)).collect::<Option<_>>()?;
                let reached = spent.iter().zip(&own).zip(&found);
                let reached: Vec<Spent> =
                    reached.map(|((spent, (curve, cost)), i)| spent.with(curve, cost, *i)).collect();
                // Of what has no seeds of its own, the scores of one stand for all.
                let scores = part.seeds.iter().zip(&found).map(|((curve, _), i)| &curve.points[*i].scores);
                Some(Spot::of(&reached, cells(&scores.collect::<Vec<_>>())))
            };
            for point in &only.0.points {
                // The last of a seed is in the mean of the last ones.
                let same = |curve: &Curve| {
                    let inner = curve.points.split_last().map_or(&[][..], |(_, inner)| inner);
                    inner.iter().position(|p| p.step == point.step)
                };
                points.extend(after(&same));
            }
            points.extend(after(&|curve| curve.points.len().checked_sub(1)));
            for (spent, (curve, cost)) in spent.iter_mut().zip(&own) {
                *spent = curve.points.len().checked_sub(1).map_or(*spent, |last| spent.with(curve, cost, last));
            }
        }
        Self { title: title.to_owned(), points }
    }
}

/// What one seed has taken by a point of its line.
#[derive(Clone, Copy)]
struct Spent {
    step: u64,
    seconds: f64,
    gradients: f64,
    operations: Option<f64>,
}

impl Spent {
    fn of(before: Option<&Timing>) -> Self {
        // Before the first training of all nothing was counted, and nothing is unknown.
        let operations = before.map_or(Some(0.0), |b| b.longest);
        let (seconds, gradients) = before.map_or((0.0, 0.0), |b| (b.seconds, b.gradients as f64));
        Self { step: 0, seconds, gradients, operations }
    }

    /// After this candidate of a training that cost so much up to its last one.
    fn with(&self, curve: &Curve, cost: &Timing, candidate: usize) -> Self {
        let step = curve.points[candidate].step;
        let share = step as f64 / curve.points.last().map_or(1, |p| p.step.max(1)) as f64;
        Self {
            step: self.step + step,
            seconds: self.seconds + share * cost.seconds,
            gradients: self.gradients + share * cost.gradients as f64,
            operations: self.operations.zip(cost.longest).map(|(spent, own)| spent + share * own),
        }
    }
}

impl Spot {
    /// The mean of what seeds have taken by then.
    fn of(seeds: &[Spent], cells: Vec<Option<Cell>>) -> Self {
        let count = seeds.len() as f64;
        let mean = |of: fn(&Spent) -> Option<f64>| Some(seeds.iter().map(of).sum::<Option<f64>>()? / count);
        Self {
            step: mean(|s| Some(s.step as f64)).unwrap_or(0.0).round() as u64,
            seconds: mean(|s| Some(s.seconds)).unwrap_or(0.0),
            gradients: mean(|s| Some(s.gradients)).unwrap_or(0.0).round() as u64,
            operations: mean(|s| s.operations),
            cells,
        }
    }
}

/// RFC 4180: `method,step,seconds,gradients,operations` and the columns, and with several seeds half of each column's interval.
pub fn csv(lines: &[Line], columns: &[String]) -> String {
    let cells = || lines.iter().flat_map(|l| &l.points).flat_map(|p| p.cells.iter().flatten());
    let several = cells().any(|c| c.seeds.is_some());
    let mut heads: Vec<String> = ["method", "step", "seconds", "gradients", "operations"].map(str::to_owned).to_vec();
    heads.extend(columns.iter().cloned());
    if several {
        heads.extend(columns.iter().map(|c| format!("{c}.interval")));
    }
    let mut table = Table::new(heads);
    let number = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.6}"));
    for (line, spot) in lines.iter().flat_map(|l| l.points.iter().map(move |p| (l, p))) {
        let mut row = vec![line.title.clone(), spot.step.to_string(), format!("{:.1}", spot.seconds)];
        row.push(spot.gradients.to_string());
        row.push(spot.operations.map_or_else(String::new, |n| format!("{n:.0}")));
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
        let mean = Mean { mean: value, error: 0.01, n: 64, images: None };
        Scores { sets: BTreeMap::from([("ocr".to_owned(), BTreeMap::from([("ocr".to_owned(), mean)]))]) }
    }

    fn curve(points: &[(u64, f64)]) -> Curve {
        Curve { points: points.iter().map(|(step, v)| Point { step: *step, scores: scores(*v) }).collect() }
    }

    /// A cascade of two trainings, and a student of two seeds after teachers of 80 seconds.
    pub fn lines() -> Vec<Line> {
        let cost = |seconds, gradients| {
            let operations = Some(seconds * 1e12);
            Timing { seconds, gradients, operations, longest: operations, ..Timing::default() }
        };
        let (base, columns) = (scores(0.5), ["ocr".to_owned()]);
        let first = Phase { seeds: vec![(curve(&[(10, 0.55), (20, 0.6)]), cost(100.0, 2000))] };
        let second = Phase { seeds: vec![(curve(&[(5, 0.7)]), cost(30.0, 500))] };
        let seeds = [curve(&[(50, 0.8), (100, 0.9)]), curve(&[(50, 0.84), (100, 0.94)])];
        let student = Phase { seeds: seeds.into_iter().map(|curve| (curve, cost(40.0, 1000))).collect() };
        vec![
            Line::of("cascade, NFT", Some(&base), &[], &[first, second], &columns),
            Line::of("student", Some(&base), &[cost(80.0, 3000)], &[student], &columns),
        ]
    }

    #[test]
    fn time_adds_up_along_a_line() {
        let lines = lines();
        let spots = |line: &Line| line.points.iter().map(|p| (p.step, p.seconds, p.gradients)).collect::<Vec<_>>();
        assert_eq!(spots(&lines[0]), [(0, 0.0, 0), (10, 50.0, 1000), (20, 100.0, 2000), (25, 130.0, 2500)]);
        assert_eq!(spots(&lines[1]), [(0, 80.0, 3000), (50, 100.0, 3500), (100, 120.0, 4000)]);
        for spot in lines.iter().flat_map(|l| &l.points) {
            assert_eq!(spot.operations, Some(spot.seconds * 1e12));
        }
        let last = lines[1].points[2].cells[0].unwrap();
        assert!((last.mean - 0.92).abs() < 1e-12 && last.interval.unwrap() > 0.2, "{last:?}");
    }

    #[test]
    fn what_was_not_counted_is_unknown_and_stays_so() {
        let phase = |longest| Phase { seeds: vec![(curve(&[(10, 0.6)]), Timing { longest, ..Timing::default() })] };
        let line = Line::of("", None, &[], &[phase(Some(3.0)), phase(None), phase(Some(5.0))], &[]);
        assert_eq!(line.points.iter().map(|p| p.operations).collect::<Vec<_>>(), [Some(3.0), None, None]);
    }

    #[test]
    fn a_timing_is_of_each_curve_or_of_all() {
        let curves = || vec![curve(&[(10, 0.6)]), curve(&[(10, 0.7)]), curve(&[(10, 0.8)])];
        let costs = [1.0, 2.0, 3.0].map(|seconds| Timing { seconds, ..Timing::default() });
        let seconds = |n: usize| {
            Phase::of("student", curves(), &costs[..n]).map(|p| p.seeds.iter().map(|s| s.1.seconds).collect::<Vec<_>>())
        };
        assert_eq!((seconds(1).unwrap(), seconds(3).unwrap()), (vec![1.0; 3], vec![1.0, 2.0, 3.0]));
        for n in [0, 2] {
            let said = seconds(n).unwrap_err().to_string();
            assert!(said.contains(&format!("`student` has 3 curves and {n} timings")), "{said}");
        }
    }

    /// Two seeds whose first training ends after 30 and 50 rounds, and which then follow different times.
    #[test]
    fn seeds_that_end_after_different_rounds_are_each_placed_by_their_own() {
        let cost = |seconds| Timing { seconds, ..Timing::default() };
        let seeds =
            vec![(curve(&[(20, 0.2), (30, 0.3)]), cost(60.0)), (curve(&[(20, 0.4), (40, 0.6), (50, 0.7)]), cost(50.0))];
        let then = vec![(curve(&[(10, 0.8)]), cost(10.0)), (curve(&[(10, 1.0)]), cost(30.0))];
        let before = [cost(5.0), cost(7.0)];
        let columns = ["ocr".to_owned()];
        let line = Line::of("", None, &before, &[Phase { seeds }, Phase { seeds: then }], &columns);
        let spots: Vec<_> = line.points.iter().map(|p| (p.step, p.seconds, p.cells[0].unwrap().mean)).collect();
        // After 20 rounds 45 and 27 s; the ends of both, 65 and 57; and the ends of what follows, 75 and 87. After 40 rounds there is one seed alone.
        let expected = [(20, 36.0, 0.3), (40, 61.0, 0.5), (50, 81.0, 0.9)];
        assert_eq!(spots.len(), 3, "{spots:?}");
        for (spot, expected) in spots.iter().zip(expected) {
            assert!(
                spot.0 == expected.0 && (spot.1 - expected.1).abs() < 1e-9 && (spot.2 - expected.2).abs() < 1e-9,
                "{spots:?}"
            );
        }
        assert!(line.points.iter().all(|p| p.cells[0].unwrap().seeds == Some(2)));
    }

    #[test]
    fn a_line_a_candidate() {
        let text = csv(&lines(), &["ocr".to_owned()]);
        assert!(
            text.starts_with(
                "method,step,seconds,gradients,operations,ocr,ocr.interval\n\"cascade, NFT\",0,0.0,0,0,0.500000,\n"
            ),
            "{text}"
        );
        assert!(text.contains("\nstudent,50,100.0,3500,100000000000000,0.820000,0.2541"), "{text}");
        assert_eq!(text.lines().count(), 1 + 4 + 3);
    }
}
