//! LaTeX: text that stays text, and `tabular`s for booktabs.
//!
//! What is written compiles with pdflatex, xelatex and lualatex without packages other than booktabs. pdflatex's fonts have
//! Latin letters only: other characters are printed by xelatex and lualatex, and by pdflatex as `U+4F60`.

use crate::terminal::acts;
use std::fmt::Write as _;

/// The macro that stands before a character which pdflatex does not have.
const MACRO: &str = "\\opdflowchar";

/// Its definition: engines that know Unicode print the first argument, pdflatex the second.
const DEFINITION: &str = "\\providecommand{\\opdflowchar}[2]{\\ifdefined\\Umathcode #1\\else #2\\fi}\n";

/// A cell of a [`Tabular`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell(String);

impl Cell {
    /// Text from anywhere.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self(escaped(text))
    }
    /// LaTeX of our own.
    pub fn markup(markup: impl Into<String>) -> Self {
        Self(markup.into())
    }
}

/// A `tabular` with booktabs' rules: a comment above, a head, rows.
#[derive(Clone, Debug)]
pub struct Tabular(String);

impl Tabular {
    /// Begins one. `columns` is its specification, such as `lrr`; `about` is text for a comment.
    #[must_use]
    pub fn new(about: &str, columns: &str, head: impl IntoIterator<Item = Cell>) -> Self {
        let mut tabular = Self(format!("{}\\begin{{tabular}}{{{columns}}}\n\\toprule\n", comment(about)));
        tabular.row(head);
        tabular.rule();
        tabular
    }

    /// Appends a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let cells: Vec<String> = cells.into_iter().map(|c| c.0).collect();
        let _ = writeln!(self.0, "{} \\\\", cells.join(" & "));
    }

    /// Appends a line across.
    pub fn rule(&mut self) {
        self.0 += "\\midrule\n";
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0 + "\\bottomrule\n\\end{tabular}\n"
    }
}

/// A whole file: what the pieces need stands before them, once.
#[must_use]
pub fn file(body: &str) -> String {
    if body.contains(MACRO) { format!("{DEFINITION}{body}") } else { body.to_owned() }
}

/// A line of comment, with its line break; nothing for no text.
#[must_use]
pub fn comment(text: &str) -> String {
    let mut line: String = String::new();
    for c in text.trim().chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if acts(c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    if line.is_empty() { line } else { format!("% {line}\n") }
}

/// Text in a paragraph or a cell, also at its beginning: `[2] base` after `\\` is no length, `* base` no star.
/// Line breaks and tabs become spaces, control characters become visible.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => continue,
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => out.push(' '),
            c if acts(c) => c.escape_unicode().for_each(|c| letter(c, &mut before, &mut out)),
            c => letter(c, &mut before, &mut out),
        }
        if !acts(c) {
            before = c;
        }
    }
    out
}

/// One character. `before` is the one before it: two that would make a third together are kept apart.
fn letter(c: char, before: &mut char, out: &mut String) {
    let pairs = [('-', "-"), ('`', "`!?"), ('\'', "'"), (',', ","), ('<', "<"), ('>', ">")];
    if pairs.iter().any(|(second, firsts)| c == *second && firsts.contains(*before)) {
        out.push_str("{}");
    }
    *before = c;
    match c {
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
        '~' => out.push_str("\\textasciitilde{}"),
        '^' => out.push_str("\\textasciicircum{}"),
        '\\' => out.push_str("\\textbackslash{}"),
        '<' => out.push_str("\\textless{}"),
        '>' => out.push_str("\\textgreater{}"),
        '|' => out.push_str("\\textbar{}"),
        // The straight quote has no name in every font's encoding, but a number, and babel makes commands of it.
        '"' => out.push_str("{\\symbol{34}}"),
        '[' | ']' | '*' => {
            let _ = write!(out, "{{{c}}}");
        }
        c if c.is_ascii() || is_latin(c) => out.push(c),
        c => {
            let _ = write!(out, "{MACRO}{{{c}}}{{U+{:04X}}}", u32::from(c));
        }
    }
}

/// Letters and marks outside of ASCII that pdflatex prints with its own fonts, in each of their encodings.
fn is_latin(c: char) -> bool {
    const MARKS: &str = "–—‘’“”…§¶†‡©£";
    const EXTENDED: &str =
        "ĀāĂăĆćĈĉĊċČčĎďĒēĔĕĖėĚěĜĝĞğĠġĤĥĨĩĪīĬĭİıĴĵĹĺĽľŁłŃńŇňŌōŎŏŐőŒœŔŕŘřŚśŜŝŠšŤťŨũŪūŬŭŮůŰűŴŵŶŷŸŹźŻżŽž";
    matches!(c, 'À'..='Ï' | 'Ñ'..='Ö' | 'Ø'..='Ý' | 'ß'..='ï' | 'ñ'..='ö' | 'ø'..='ý' | 'ÿ')
        || MARKS.contains(c)
        || EXTENDED.contains(c)
}

/// Every character beyond ASCII that is written as it is, for the test that compiles them.
#[must_use]
pub fn latin() -> String {
    ('\u{80}'..'\u{3000}').filter(|c| is_latin(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        for (text, expected) in [
            ("ocr_teacher, 75% & more", "ocr\\_teacher, 75\\% \\& more"),
            ("[2] base", "{[}2{]} base"),
            ("* base", "{*} base"),
            ("\\input{x}", "\\textbackslash{}input\\{x\\}"),
            ("a\r\nb\nc\td", "a b c d"),
            ("a--b ``c'' ?`", "a-{}-b `{}`c'{}' ?{}`"),
            ("<a|\"b\">", "\\textless{}a\\textbar{}{\\symbol{34}}b{\\symbol{34}}\\textgreater{}"),
            ("^~$#", "\\textasciicircum{}\\textasciitilde{}\\$\\#"),
            ("Łukasz, naïve", "Łukasz, naïve"),
            ("你", "\\opdflowchar{你}{U+4F60}"),
            ("\x1b[0m\u{202e}", "\\textbackslash{}u\\{1b\\}{[}0m\\textbackslash{}u\\{202e\\}"),
        ] {
            assert_eq!(escaped(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_comment_is_one_line() {
        assert_eq!(comment("a\nb\r\\end{x}\u{85}."), "% a b \\end{x}\\u{85}.\n");
        assert_eq!(comment(" \n"), "");
    }

    #[test]
    fn a_tabular_by_hand() {
        let mut tabular = Tabular::new("A title", "lr", [Cell::text("model"), Cell::text("x_1")]);
        tabular.row([Cell::text("base"), Cell::markup("\\textbf{0.5}")]);
        let text = tabular.finish();
        assert_eq!(
            text,
            "% A title\n\\begin{tabular}{lr}\n\\toprule\nmodel & x\\_1 \\\\\n\\midrule\nbase & \\textbf{0.5} \\\\\n\\bottomrule\n\\end{tabular}\n"
        );
        assert_eq!(file(&text), text);
        assert!(file("\\opdflowchar{x}{y}").starts_with("\\providecommand"));
    }
}
