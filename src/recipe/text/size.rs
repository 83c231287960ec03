//! Sizes as people write them.

/// `500`, `20k`, `1.5G`, `2 TB`: bytes, in steps of a thousand. Nothing if it is no size.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let units = [("", 1.0), ("k", 1e3), ("m", 1e6), ("g", 1e9), ("t", 1e12)];
    let lower = text.to_lowercase();
    let lower = lower.trim_end_matches('b');
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let number: f64 = lower[..end].parse().ok()?;
    let factor = units.iter().find(|(name, _)| *name == lower[end..].trim()).map(|(_, factor)| factor)?;
    let bytes = number * factor;
    // 2^64 and more are bytes of no machine.
    let there = bytes.is_finite() && bytes < 18_446_744_073_709_551_616.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, and not negative")]
    there.then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("500", 500), ("20k", 20_000), ("1.5G", 1_500_000_000), ("2 TB", 2_000_000_000_000)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        assert_eq!(size("9007199254740992"), Some(1 << 53));
        assert!(
            ["", "-1", "x", "5q", "1.2.3G", "18446744073709551616", "99999999T", &"9".repeat(400)]
                .iter()
                .all(|t| size(t).is_none())
        );
    }
}
