//! How many times the operations of one row the trainings of the others took.

use super::row::Row;
use opdflow_io::markdown::code;
use serde::Serialize;

/// Units of operations, each a thousand times the one before.
const UNITS: [(&str, f64); 6] =
    [("MFLOP", 1e6), ("GFLOP", 1e9), ("TFLOP", 1e12), ("PFLOP", 1e15), ("EFLOP", 1e18), ("ZFLOP", 1e21)];

/// The largest unit of which this is one or more.
pub fn unit(operations: f64) -> (&'static str, f64) {
    UNITS.into_iter().rev().find(|(_, one)| operations >= *one).unwrap_or(UNITS[0])
}

/// A number in a unit, with no more digits than tell rows apart.
pub fn in_units(operations: f64, one: f64) -> String {
    let value = operations / one;
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// Operations on the longest path of each row's trainings, in multiples of those of one row.
#[derive(Clone, Debug, Serialize)]
pub struct Multiples {
    /// The title of that row.
    of: String,
    /// Its operations.
    operations: f64,
    /// Titles of the others that were trained, with how many times as many they took.
    rows: Vec<(String, f64)>,
    /// Titles of those whose timings do not say.
    unknown: Vec<String>,
}

impl Multiples {
    /// Those of `rows`, each with its operations on the longest path, in terms of the row at `of`; nothing if that one does not say.
    pub fn of(rows: &[(&Row, Option<f64>)], of: usize) -> Option<Self> {
        let (row, operations) = rows.get(of)?;
        let operations = operations.filter(|n| *n > 0.0)?;
        let trained = || rows.iter().enumerate().filter(|(i, (row, _))| *i != of && row.seconds.is_some());
        let times = |(_, (row, own)): (usize, &(&Row, Option<f64>))| Some((row.title.clone(), (*own)? / operations));
        let unknown = trained().filter(|(_, (_, own))| own.is_none()).map(|(_, (row, _))| row.title.clone()).collect();
        Some(Self { of: row.title.clone(), operations, rows: trained().filter_map(times).collect(), unknown })
    }

    /// As a sentence in Markdown.
    pub fn words(&self) -> String {
        let (name, one) = unit(self.operations);
        let each: Vec<String> = self.rows.iter().map(|(title, times)| format!("{} {times:.2}", code(title))).collect();
        let unknown: Vec<String> = self.unknown.iter().map(|title| code(title)).collect();
        let unknown = if unknown.is_empty() { String::new() } else { format!("; not known of {}", unknown.join(", ")) };
        let own = format!("{} {name}", in_units(self.operations, one));
        let each = if each.is_empty() { "no other row was trained".to_owned() } else { each.join(", ") };
        format!("Operations on the longest path, in multiples of the {own} of {}: {each}{unknown}.", code(&self.of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_by_size() {
        let told = |n: f64| format!("{} {}", in_units(n, unit(n).1), unit(n).0);
        assert_eq!(told(12.34e12), "12.3 TFLOP");
        assert_eq!(told(642e18), "642 EFLOP");
        assert_eq!(told(999.0), "0.0 MFLOP");
        assert_eq!(in_units(1.5e15, unit(20e12).1), "1500");
    }

    #[test]
    fn multiples_by_hand() {
        let row = |title: &str, trained: bool| Row {
            title: title.to_owned(),
            seconds: trained.then_some(1.0),
            cpu_seconds: None,
            gpu_seconds: None,
            gradients: None,
            operations: None,
            cells: Vec::new(),
            average: None,
        };
        let all =
            [row("base", false), row("joint", true), row("cascade", true), row("student", true), row("old", true)];
        let operations = [None, Some(13.0e12), Some(15.0e12), Some(10.0e12), None];
        let rows: Vec<(&Row, Option<f64>)> = all.iter().zip(operations).collect();
        assert_eq!(
            Multiples::of(&rows, 3).unwrap().words(),
            "Operations on the longest path, in multiples of the 10.0 TFLOP of `student`: `joint` 1.30, `cascade` 1.50; not known of `old`."
        );
        assert!(Multiples::of(&rows, 4).is_none() && Multiples::of(&rows, 9).is_none());
    }
}
