//! Numbers for people.

/// A time: `0.42 s`, `12.3 s`, `2m 14s`, `3h 05m`, `2d 04h`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "finite, not negative, and `as` saturates"
    )]
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 0.995 => format!("{seconds:.2} s"),
        _ if seconds < 59.95 => format!("{seconds:.1} s"),
        0..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d {:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

/// The value of a metric in a few characters. What is not finite is `NaN`.
#[must_use]
pub fn metric(value: Option<f64>) -> String {
    match value {
        None => "NaN".to_owned(),
        Some(v) if v == 0.0 || (0.001..100_000.0).contains(&v.abs()) => format!("{v:.3}"),
        Some(v) => format!("{v:.2e}"),
    }
}

/// A size: `512 B`, `1.2 kB`, `3.4 GB`, in steps of a thousand.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn bytes(size: u64) -> String {
    if size < 1000 {
        return format!("{size} B");
    }
    let mut rest = size as f64 / 1000.0;
    let mut units = ["kB", "MB", "GB", "TB"].into_iter().peekable();
    while let Some(unit) = units.next() {
        if rest < 999.95 || units.peek().is_none() {
            return format!("{rest:.1} {unit}");
        }
        rest /= 1000.0;
    }
    String::new()
}

/// Floating-point operations: `2.4 TFLOP`, `642.0 EFLOP`.
#[must_use]
pub fn operations(count: f64) -> String {
    let mut rest = count;
    for unit in ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"] {
        if rest < 999.95 {
            return format!("{rest:.1} {unit}");
        }
        rest /= 1000.0;
    }
    format!("{rest:.1} EFLOP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_two_numbers() {
        for (seconds, text) in [
            (0.0, "0.00 s"),
            (0.999, "1.0 s"),
            (12.34, "12.3 s"),
            (59.97, "1m 00s"),
            (134.0, "2m 14s"),
            (3599.7, "1h 00m"),
            (11_100.0, "3h 05m"),
            (187_200.0, "2d 04h"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn sizes_keep_one_digit_behind_the_point() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_960, "1.0 MB"),
            (3_400_000_000, "3.4 GB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn metrics_stay_short() {
        assert_eq!(metric(Some(0.123_456)), "0.123");
        assert_eq!(metric(Some(3e-6)), "3.00e-6");
        assert_eq!(metric(None), "NaN");
    }
}
