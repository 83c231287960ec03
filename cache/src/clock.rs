//! Time as text.

use jiff::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, as RFC 3339 in UTC to the second: `2026-11-23T05:53:00Z`.
pub fn utc_now() -> String {
    rfc3339(SystemTime::now())
}

/// A moment, as RFC 3339 in UTC to the second. Moments before 1970 read as 1970, those after the year 9999 as its end.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Such a text as seconds since 1970.
pub fn moment(text: &str) -> Option<f64> {
    text.parse::<Timestamp>().ok().map(|time| time.as_duration().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_moments() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_795_413_180, "2026-11-23T05:53:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
            assert_eq!(moment(text), Some(seconds as f64));
        }
        assert_eq!(moment("yesterday"), None);
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
        assert!(rfc3339(UNIX_EPOCH + Duration::from_secs(1 << 40)).starts_with("9999-12-3"));
    }
}
