//! The way of one metric in a few points, however long the training: for a line of the terminal.

/// Most points that are kept.
const MOST: usize = 64;

/// What eight heights look like.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Means of equally many neighbours each.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    points: Vec<f64>,
    /// How many values a point is the mean of.
    each: u32,
    /// The sum and the number of those that have no point yet.
    open: (f64, u32),
}

impl Default for Trace {
    fn default() -> Self {
        Self { points: Vec::new(), each: 1, open: (0.0, 0) }
    }
}

impl Trace {
    /// Takes in the next value. What is not finite has no height and is passed over.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.open = (self.open.0 + value, self.open.1 + 1);
        if self.open.1 < self.each {
            return;
        }
        self.points.push(self.open.0 / f64::from(self.open.1));
        self.open = (0.0, 0);
        if self.points.len() == MOST {
            self.points = self.points.chunks(2).map(|two| two.iter().sum::<f64>() / two.len() as f64).collect();
            self.each = self.each.saturating_mul(2);
        }
    }

    /// The trace in `width` characters or fewer; nothing of fewer than two points. A level one is drawn at the bottom.
    #[must_use]
    pub fn sparkline(&self, width: usize) -> String {
        if self.points.len() < 2 || width == 0 {
            return String::new();
        }
        let each = self.points.len().div_ceil(width);
        let means: Vec<f64> = self.points.chunks(each).map(|c| c.iter().sum::<f64>() / c.len() as f64).collect();
        let low = means.iter().copied().fold(f64::INFINITY, f64::min);
        let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let height = |v: &f64| {
            let share = if high > low { (v - low) / (high - low) } else { 0.0 };
            HEIGHTS[((share * 7.0).round() as usize).min(7)]
        };
        means.iter().map(height).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> Trace {
        let mut trace = Trace::default();
        values.into_iter().for_each(|v| trace.add(v));
        trace
    }

    #[test]
    fn a_line_rises_as_its_values_do() {
        assert_eq!(of((0..8).map(f64::from)).sparkline(8), "▁▂▃▄▅▆▇█");
        assert_eq!(of([3.0, 1.0, 3.0]).sparkline(8), "█▁█");
        assert_eq!(of([2.0, 2.0]).sparkline(8), "▁▁");
        assert_eq!(of([2.0]).sparkline(8), "");
        assert_eq!(of([1.0, f64::NAN, f64::INFINITY, 2.0]).sparkline(8), "▁█");
    }

    #[test]
    fn however_many_values_there_are_the_line_is_as_long_as_its_place() {
        for count in [10, 64, 65, 1000, 100_000] {
            let line = of((0..count).map(f64::from)).sparkline(16);
            assert!(line.chars().count() <= 16 && line.starts_with('▁') && line.ends_with('█'), "{count}: {line}");
        }
        assert!(of((0..100_000).map(f64::from)).points.len() < MOST);
    }
}
