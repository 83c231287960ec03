//! Small words that all parts of a page are written with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opdflow_io::xml::escaped;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Writing into a text does not fail.
macro_rules! put {
    ($out:expr, $($words:tt)*) => { { use std::fmt::Write as _; let _ = write!($out, $($words)*); } };
}
pub(super) use put;

/// The beginning of a page. One that is served may ask its server whether there is news, and nobody else.
pub(super) fn begin(title: &str, served: bool) -> String {
    let (connect, attribute) = if served { ("; connect-src 'self'", " data-live") } else { ("", "") };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'{connect}\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body{attribute}>\n",
        escaped(title)
    )
}

/// Its end.
pub(super) fn end(out: &mut String) {
    put!(out, "<script>\n{SCRIPT}</script>\n</body>\n</html>\n");
}

/// What a browser shows without asking anybody.
pub(super) fn data(media: &str, bytes: &[u8]) -> String {
    format!("data:{media};base64,{}", STANDARD.encode(bytes))
}

/// A name of a place on the page.
pub(super) fn anchor(name: &str) -> String {
    name.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("-{b:02x}") })
        .collect()
}

/// Seconds since 1970 as date and time, UTC.
pub(super) fn time(at: f64) -> String {
    let at = std::time::Duration::try_from_secs_f64(at).unwrap_or_default();
    opdflow_cache::rfc3339(std::time::SystemTime::UNIX_EPOCH + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The colours of the style by name: of light displays, then of dark ones.
    fn colours() -> Vec<Vec<(String, [f64; 3])>> {
        let blocks = STYLE.split(":root {").skip(1).map(|rest| rest.split('}').next().unwrap());
        let one = |pair: &str| {
            let (name, hex) = pair.trim().strip_prefix("--")?.split_once(": #")?;
            let hex = if hex.len() == 3 { hex.chars().flat_map(|c| [c, c]).collect() } else { hex.to_owned() };
            let channel = |i: usize| f64::from(u8::from_str_radix(&hex[i..i + 2], 16).unwrap()) / 255.0;
            Some((name.to_owned(), [channel(0), channel(2), channel(4)]))
        };
        blocks.map(|block| block.split(';').filter_map(one).collect()).collect()
    }

    /// WCAG 2's contrast ratio.
    fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
        let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
        let light = |c: [f64; 3]| 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
        let (a, b) = (light(a), light(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn words_and_lines_stand_out_in_light_and_dark() {
        assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 1e-9);
        let all = colours();
        assert_eq!(all.len(), 2);
        for scheme in all {
            let of = |wanted: &str| scheme.iter().find(|(name, _)| name == wanted).unwrap().1;
            for ground in ["paper", "soft"] {
                // 4.5 is what text needs, 3 a line of a chart.
                for (name, least) in
                    [("ink", 4.5), ("line", 4.5), ("good", 4.5), ("bad", 4.5), ("other", 4.5), ("mark", 3.0)]
                {
                    let found = contrast(of(name), of(ground));
                    assert!(found >= least, "{name} on {ground}: {found:.2}");
                }
            }
        }
    }
}
