//! The points of a stage as they came, and as its result has them in the end.

use crate::report::artefacts::Sample;
use std::collections::BTreeMap;

/// One number of one step, with its time.
#[derive(Clone, Debug)]
pub struct Point {
    /// The step.
    pub step: u64,
    /// Its name.
    pub name: String,
    /// Its value; NaN where it was not finite.
    pub value: f64,
    /// Seconds since 1970.
    pub at: f64,
}

/// All points of a stage that count, in their order.
#[derive(Clone, Debug, Default)]
pub struct Course {
    points: Vec<Point>,
}

impl Course {
    /// The points.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// A process of the stage goes on after `step`, or begins at 0: what was told of later steps is told again. Whether
    /// anything was.
    pub fn begin(&mut self, step: u64) -> bool {
        let before = self.points.len();
        self.points.retain(|p| p.step <= step && step > 0);
        self.points.len() < before
    }

    /// Takes in the next one.
    pub fn push(&mut self, point: Point) {
        self.points.push(point);
    }

    /// Takes in what the stage left. Whether that differs from what was heard: a stage that went on from another run's
    /// checkpoint leaves all its steps, and one whose result was there tells none.
    ///
    /// A point keeps the time at which it was heard. One that was not heard has that of the first that was, before which it
    /// was made, or else `finished`.
    pub fn settle(&mut self, left: Vec<Sample>, finished: f64) -> bool {
        let alike =
            |p: &Point, s: &Sample| (p.step, &p.name, p.value.to_bits()) == (s.step, &s.name, s.value.to_bits());
        if self.points.len() == left.len() && self.points.iter().zip(&left).all(|(p, s)| alike(p, s)) {
            return false;
        }
        let heard: BTreeMap<(u64, &str), f64> = self.points.iter().map(|p| ((p.step, p.name.as_str()), p.at)).collect();
        let first = self.points.first().map_or(finished, |p| p.at.min(finished));
        let time = |s: &Sample| heard.get(&(s.step, s.name.as_str())).copied().unwrap_or(first);
        let times: Vec<f64> = left.iter().map(time).collect();
        let point = |(s, at): (Sample, f64)| Point { step: s.step, name: s.name, value: s.value, at };
        self.points = left.into_iter().zip(times).map(point).collect();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(steps: &[u64]) -> Course {
        let mut course = Course::default();
        for step in steps {
            course.push(Point { step: *step, name: "loss".into(), value: *step as f64, at: 100.0 + *step as f64 });
        }
        course
    }

    fn left(steps: std::ops::RangeInclusive<u64>) -> Vec<Sample> {
        steps.map(|step| Sample { step, name: "loss".into(), value: step as f64 }).collect()
    }

    #[test]
    fn a_retried_stage_tells_the_steps_after_its_checkpoint_again() {
        let mut course = heard(&[1, 2, 3, 4]);
        assert!(course.begin(2));
        assert_eq!(course.points().iter().map(|p| p.step).collect::<Vec<_>>(), [1, 2]);
        assert!(!course.begin(2));
        assert!(course.begin(0) && course.points().is_empty());
    }

    #[test]
    fn a_result_has_the_last_word_and_what_was_heard_keeps_its_time() {
        assert!(!heard(&[1, 2]).settle(left(1..=2), 900.0));
        let mut course = heard(&[3, 4]);
        assert!(course.settle(left(1..=4), 900.0));
        assert_eq!(course.points().iter().map(|p| p.at).collect::<Vec<_>>(), [103.0, 103.0, 103.0, 104.0]);
        let mut course = Course::default();
        assert!(course.settle(left(1..=1), 900.0));
        assert_eq!(course.points()[0].at, 900.0);
        // Not a number is no other number than itself.
        let nan = || Sample { step: 1, name: "loss".into(), value: f64::NAN };
        let mut course = Course::default();
        course.push(Point { step: 1, name: "loss".into(), value: f64::NAN, at: 1.0 });
        assert!(!course.settle(vec![nan()], 2.0));
    }
}
