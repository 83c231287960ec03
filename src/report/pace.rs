//! How fast a stage goes now: seconds a step, the recent steps counting most.

/// Seconds after which a step counts for a third of what it did.
const MEMORY: f64 = 60.0;

/// However long a step takes, it leaves at least this much of what was known before.
const KEPT: f64 = 0.8;

/// The speed of one attempt at a stage. The mean over the whole attempt would be wrong for long after a start that
/// reads weights, or after the machine got busy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// The time and the step that were last heard of.
    last: Option<(f64, u64)>,
    seconds: f64,
    steps: f64,
}

impl Pace {
    /// Begins at `step`.
    pub fn begin(&mut self, at: f64, step: u64) {
        *self = Self { last: Some((at, step)), ..Self::default() };
    }

    /// Takes in that `step` is done.
    #[expect(clippy::cast_precision_loss, reason = "steps are far below 2^52")]
    pub fn reach(&mut self, at: f64, step: u64) {
        let Some((before, from)) = self.last else { return self.begin(at, step) };
        if step <= from {
            return;
        }
        let took = (at - before).max(0.0);
        let kept = (-took / MEMORY).exp().max(KEPT);
        self.seconds = self.seconds * kept + took;
        self.steps = self.steps * kept + (step - from) as f64;
        self.last = Some((at, step));
    }

    /// Seconds from `now` until step `total`; nothing if nothing can be said yet.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "steps are far below 2^52")]
    pub fn left(&self, total: u64, now: f64) -> Option<f64> {
        let (at, step) = self.last.filter(|_| self.steps > 0.0)?;
        let whole = self.seconds / self.steps * total.checked_sub(step)? as f64;
        Some((whole - (now - at).max(0.0)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn nothing_is_said_before_the_first_step() {
        let mut pace = Pace::default();
        assert_eq!(pace.left(10, 0.0), None);
        pace.begin(0.0, 4);
        assert_eq!(pace.left(10, 9.0), None);
        pace.reach(2.0, 5);
        assert_eq!(pace.left(10, 2.0), Some(10.0));
        assert_eq!(pace.left(10, 3.0), Some(9.0));
        assert_eq!(pace.left(10, 99.0), Some(0.0));
        assert_eq!(pace.left(4, 2.0), None);
    }

    #[test]
    fn a_slow_start_is_forgotten_and_a_new_speed_is_believed_soon() {
        let mut pace = Pace::default();
        pace.begin(0.0, 0);
        pace.reach(30.0, 1);
        for step in 2..=120_u32 {
            pace.reach(30.0 + f64::from(step), u64::from(step));
        }
        let left = pace.left(220, 150.0).unwrap();
        assert!((100.0..110.0).contains(&left), "{left}");
        // Twice as slow from here on.
        for step in 121..=200_u32 {
            pace.reach(150.0 + 2.0 * f64::from(step - 120), u64::from(step));
        }
        let left = pace.left(300, 310.0).unwrap();
        assert!((180.0..=200.0).contains(&left), "{left}");
    }

    #[test]
    fn long_steps_are_not_taken_one_by_one() {
        let mut pace = Pace::default();
        pace.begin(0.0, 0);
        let mut at = 0.0;
        for step in 1..=40 {
            at += if step % 2 == 0 { 400.0 } else { 600.0 };
            pace.reach(at, step);
        }
        let each = pace.left(41, at).unwrap();
        assert!((470.0..530.0).contains(&each), "{each}");
    }
}
