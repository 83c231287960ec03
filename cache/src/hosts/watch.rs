//! Whether a process of another host lives, by what is seen of it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What was seen of counters, by the names of who raises them.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<HashMap<String, Watch>>);

#[derive(Debug)]
struct Watch {
    count: Option<u64>,
    looked: Instant,
    still: Duration,
    moved: bool,
}

/// What was seen of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// For how long its counter has stood still, as far as anybody looked.
    pub still: Duration,
    /// Whether it was ever seen to move.
    pub moved: bool,
}

impl Watches {
    /// The counter of `name` is `count` now; nothing where there is none. Between two looks at most `gap` counts as
    /// standing still: while nobody looked, because this process or the file system stood still itself, the counter may
    /// have had no chance to move.
    pub fn look(&self, name: &str, count: Option<u64>, now: Instant, gap: Duration) -> Seen {
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let fresh = || Watch { count, looked: now, still: Duration::ZERO, moved: false };
        let watch = all.entry(name.to_owned()).or_insert_with(fresh);
        if watch.count == count {
            watch.still = watch.still.saturating_add(now.saturating_duration_since(watch.looked).min(gap));
        } else {
            *watch = Watch { moved: true, ..fresh() };
        }
        watch.looked = now;
        Seen { still: watch.still, moved: watch.moved }
    }

    /// For how long one has stood still, as of the last look.
    pub fn still(&self, name: &str) -> Duration {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).get(name).map_or(Duration::ZERO, |watch| watch.still)
    }

    /// From now on `name` has stood still for ever, for its counter was taken away.
    pub fn bury(&self, name: &str) {
        let gone = Watch { count: None, looked: Instant::now(), still: Duration::MAX, moved: false };
        self.0.lock().unwrap_or_else(|e| e.into_inner()).insert(name.to_owned(), gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_that_was_watched_counts() {
        let (watches, began, gap) = (Watches::default(), Instant::now(), Duration::from_secs(10));
        let look = |count, at| watches.look("a", count, began + Duration::from_secs(at), gap);
        let seen = |still, moved| Seen { still: Duration::from_secs(still), moved };
        assert_eq!(look(Some(4), 0), seen(0, false));
        assert_eq!(look(Some(4), 7), seen(7, false));
        assert_eq!(look(Some(4), 14), seen(14, false));
        assert_eq!(look(Some(4), 3600), seen(24, false), "an hour in which nobody looked, this host asleep");
        assert_eq!(look(Some(5), 3601), seen(0, true));
        assert_eq!(look(Some(5), 3603), seen(2, true));
        // One that goes away stands still, too.
        assert_eq!(look(None, 3604), seen(0, true));
        assert_eq!(look(None, 3609), seen(5, true));
        assert_eq!(watches.look("b", None, began, gap), seen(0, false));
        watches.bury("b");
        assert_eq!(watches.look("b", None, Instant::now(), gap).still, Duration::MAX);
        assert_eq!(watches.look("b", Some(1), Instant::now(), gap), seen(0, true), "it was alive after all");
    }
}
