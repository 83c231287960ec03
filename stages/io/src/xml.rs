//! Text in XML: SVG and HTML, between tags and in attributes.

use crate::terminal::acts;

/// Text between tags or between the quotes of an attribute. What may not stand in XML even as a number (control
/// characters), and what turns the direction of writing, becomes visible: `\u{1b}`.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if acts(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(escaped("</text><script>\"a\" & 'b'"), "&lt;/text&gt;&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;");
        assert_eq!(escaped("a\x1b[2J\0\u{ffff}\u{202e}\nb é 你"), "a\\u{1b}[2J\\u{0}\\u{ffff}\\u{202e}\nb é 你");
        assert_eq!(escaped("]]>"), "]]&gt;");
    }
}
