//! Whether the trainings that a table compares took equally many gradients.

use super::row::Row;
use opdflow_io::markdown::code;
use serde::Serialize;

/// Budgets that differ by no more than this share of the largest count as equal: rounds are whole numbers.
const EQUAL: f64 = 0.05;

/// The gradients of rows that are compared with each other.
#[derive(Clone, Debug, Serialize)]
pub struct Budget {
    /// Titles of the rows with their gradients, each of one image at one noise level.
    rows: Vec<(String, u64)>,
    /// Whether the rows' gradients are equal, to a twentieth.
    equal: bool,
}

impl Budget {
    /// The budget of these rows; `None` if fewer than two say what they took.
    pub fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Option<Self> {
        let rows: Vec<(String, u64)> = rows.filter_map(|r| Some((r.title.clone(), r.gradients?))).collect();
        if rows.len() < 2 {
            return None;
        }
        let mut budget = Self { rows, equal: false };
        let (least, most) = (budget.least().1, budget.most().1);
        budget.equal = (most - least) as f64 <= EQUAL * most as f64;
        Some(budget)
    }

    fn least(&self) -> &(String, u64) {
        self.rows.iter().min_by_key(|r| r.1).expect("there are two rows or more")
    }

    fn most(&self) -> &(String, u64) {
        self.rows.iter().max_by_key(|r| r.1).expect("there are two rows or more")
    }

    /// The budget as a sentence in Markdown.
    pub fn words(&self) -> String {
        let thousands = |gradients: u64| format!("{:.0} thousand", gradients as f64 / 1000.0);
        let titles: Vec<String> = self.rows.iter().map(|r| code(&r.0)).collect();
        let (last, others) = titles.split_last().expect("there are two rows or more");
        let titles = format!("{} and {last}", others.join(", "));
        let ((short, least), (long, most)) = (self.least(), self.most());
        if self.equal {
            let apart = (most - least) as f64 / (*most).max(1) as f64 * 100.0;
            let within = if most == least { String::new() } else { format!(", equal within {apart:.1} %") };
            format!("Equal budgets: {titles} took {} gradients each{within}.", thousands(*most))
        } else {
            format!(
                "Unequal budgets: of {titles}, {} took the fewest gradients, {}, and {} the most, {}.",
                code(short),
                thousands(*least),
                code(long),
                thousands(*most)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(gradients: &[Option<u64>]) -> Option<Budget> {
        let row = |(i, g): (usize, &Option<u64>)| Row {
            title: ["student", "joint", "cascade"][i].to_owned(),
            seconds: None,
            cpu_seconds: None,
            gpu_seconds: None,
            gradients: *g,
            operations: None,
            cells: Vec::new(),
            average: None,
        };
        Budget::of(gradients.iter().enumerate().map(row).collect::<Vec<_>>().iter())
    }

    #[test]
    fn equal_to_a_twentieth() {
        let equal = budget(&[Some(133_920), Some(133_728), Some(134_400)]).unwrap();
        assert!(equal.equal);
        assert_eq!(
            equal.words(),
            "Equal budgets: `student`, `joint` and `cascade` took 134 thousand gradients each, equal within 0.5 %."
        );
        assert_eq!(
            budget(&[Some(60_480), Some(60_480)]).unwrap().words(),
            "Equal budgets: `student` and `joint` took 60 thousand gradients each."
        );
        assert!(budget(&[Some(95), Some(100)]).unwrap().equal);
        assert!(!budget(&[Some(94), Some(100)]).unwrap().equal);
    }

    #[test]
    fn unequal_ones_say_who_took_how_many() {
        let unequal = budget(&[Some(234_720), Some(57_600), Some(46_080)]).unwrap();
        assert_eq!(
            unequal.words(),
            "Unequal budgets: of `student`, `joint` and `cascade`, `cascade` took the fewest gradients, 46 thousand, and `student` the most, 235 thousand."
        );
    }

    #[test]
    fn one_row_is_not_compared() {
        assert!(budget(&[Some(5), None]).is_none() && budget(&[]).is_none());
        assert!(budget(&[Some(0), Some(0)]).unwrap().equal);
    }
}
