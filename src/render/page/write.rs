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
