//! Text from outside on a terminal, or in a log that somebody will print on one.
//!
//! Control characters move the cursor, change colours, or make a terminal answer; characters that turn the direction of
//! writing make a line read as another. Both are shown as `\u{1b}` here.

use std::borrow::Cow;

/// The most characters that a line of a message keeps.
const LINE: usize = 2000;
/// What is kept of the end of a line that is cut: the reason often stands there.
const TAIL: usize = 200;
/// The most lines that a message keeps, and how many of them are its last ones.
const LINES: (usize, usize) = (400, 20);

/// Whether a character acts instead of being seen: C0, DEL, C1, marks of direction, separators that break lines where
/// nobody expects it, byte order marks.
#[must_use]
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Lines of text with everything visible that acts; line breaks and tabs stay, and a carriage return before a line break
/// is a part of it.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    replaced(text, |c| acts(c) && !matches!(c, '\n' | '\t'))
}

/// The same as one line: line breaks and tabs become visible too.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    replaced(text, acts)
}

fn replaced(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') && !acts('\n') => {}
            c if acts(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Text that this program coloured itself, after [`shown`] or its like has taken away all escapes that came from outside:
/// colours stay, everything else that acts becomes visible.
#[must_use]
pub fn coloured(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        out.push_str(&shown(&rest[..at]));
        rest = &rest[at..];
        let colour = rest.strip_prefix("\x1b[").and_then(|code| {
            let end = code.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            code[end..].starts_with('m').then_some(2 + end + 1)
        });
        let (kept, after) = rest.split_at(colour.unwrap_or(1));
        if colour.is_some() {
            out.push_str(kept)
        } else {
            out.push_str(&shown(kept))
        }
        rest = after;
    }
    out.push_str(&shown(rest));
    Cow::Owned(out)
}

/// At most `most` characters of one line, its end among them; what was left out is counted.
#[must_use]
pub fn cut(line: &str, most: usize) -> Cow<'_, str> {
    // Bytes are at least as many as characters, and quickly counted.
    if line.len() <= most {
        return Cow::Borrowed(line);
    }
    let count = line.chars().count();
    if count <= most {
        return Cow::Borrowed(line);
    }
    let tail = TAIL.min(most / 4);
    let place = |n: usize| line.char_indices().nth(n).map_or(line.len(), |(at, _)| at);
    let (head, end) = (&line[..place(most - tail)], &line[place(count - tail)..]);
    Cow::Owned(format!("{head} … ({} characters left out) … {end}", count - most))
}

/// A message from outside: visible as by [`shown`], and cut where it is endless (2,000 characters a line, 400 lines).
#[must_use]
pub fn message(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let shown = |line: &&str| shown(&cut(line.strip_suffix('\r').unwrap_or(line), LINE)).into_owned();
    let (most, last) = LINES;
    if lines.len() <= most {
        return lines.iter().map(shown).collect::<Vec<_>>().join("\n");
    }
    let (head, end) = (&lines[..most - last], &lines[lines.len() - last..]);
    let gap = format!("… ({} lines left out) …", lines.len() - most);
    head.iter().map(shown).chain([gap]).chain(end.iter().map(shown)).collect::<Vec<_>>().join("\n")
}

/// JSON as it was written by a program, with what acts on a terminal escaped in JSON's own way: the same value.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    // Below U+0080, only DEL can stand in written JSON beside the line breaks and spaces between its parts.
    let inside = |c: char| acts(c) && !matches!(c, '\n' | '\t' | '\r');
    if !text.contains(inside) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if inside(c) { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_acts_is_seen() {
        let title = "\x1b]0;title\x07 \x1b[2J\u{9b}31m\x7f a\rb\tc\r\nd \u{202e}gnp.exe\u{2066}";
        let visible = "\\u{1b}]0;title\\u{7} \\u{1b}[2J\\u{9b}31m\\u{7f} a\\u{d}b\tc\nd \\u{202e}gnp.exe\\u{2066}";
        assert_eq!(shown(title), visible);
        assert_eq!(line("a\n\tb\r\n"), "a\\u{a}\\u{9}b\\u{d}\\u{a}");
        // Letters of any script, joined emoji among them, are seen already.
        let plain = "naïve 你好 🏳\u{fe0f}\u{200d}🌈 שלום";
        assert!(matches!(shown(plain), Cow::Borrowed(p) if p == plain));
        assert_eq!(shown(&shown(title)), visible, "what is visible stays as it is");
    }

    #[test]
    fn our_own_colours_stay() {
        let text = "\x1b[31;1mFAILED\x1b[0m a\u{9b}2J\x1b[2J\x1b[8\x1b[0m";
        assert_eq!(coloured(text), "\x1b[31;1mFAILED\x1b[0m a\\u{9b}2J\\u{1b}[2J\\u{1b}[8\x1b[0m");
        assert_eq!(coloured("\x1b"), "\\u{1b}");
    }

    #[test]
    fn nothing_is_endless() {
        assert_eq!(cut("abcdefgh", 8), "abcdefgh");
        assert_eq!(cut("äöüäöüäö", 8), "äöüäöüäö");
        assert_eq!(cut("abcdefghijkl", 8), "abcdef … (4 characters left out) … kl");
        let bad = format!("not JSON: {} at line 1\nhelp: this", "x".repeat(50_000_000));
        let told = message(&bad);
        assert!(told.len() < 3000 && told.ends_with("at line 1\nhelp: this"), "{} bytes", told.len());
        assert!(told.contains("(49998020 characters left out)"), "{}", &told[1700..]);
        let many: String = (0..1_000_000).map(|i| format!("line {i}\n")).collect();
        let told = message(&many);
        assert_eq!(told.lines().count(), 400, "399 of them, the gap, and the empty end that is no line");
        assert!(told.contains("\n… (999601 lines left out) …\n") && told.ends_with("line 999999\n"), "{told}");
    }

    #[test]
    fn json_keeps_its_value() {
        assert_eq!(json("{\"a\": \"x\u{7f}\u{9b}\u{202e}ü\"}"), "{\"a\": \"x\\u007f\\u009b\\u202eü\"}");
        assert!(matches!(json("{\n\t\"a\": 1}\r\n"), Cow::Borrowed(_)));
    }
}
