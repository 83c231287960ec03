//! Markdown as CommonMark and GitHub read it: text that stays text, and tables.

use crate::terminal::acts;
use std::fmt::Write as _;

/// A cell of a [`Table`], or any other piece of Markdown within a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell(String);

impl Cell {
    /// Text from anywhere.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self(escaped(text))
    }
    /// Markdown of our own. In a table its bars must be escaped already.
    pub fn markup(markup: impl Into<String>) -> Self {
        Self(markup.into())
    }
}

/// On which side a column's cells begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table, padded so that it reads well as plain text too, unless it is a compact one.
#[derive(Clone, Debug)]
pub struct Table {
    sides: Vec<Side>,
    lines: Vec<Vec<Cell>>,
    padded: bool,
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub fn new(head: impl IntoIterator<Item = (Cell, Side)>) -> Self {
        let (head, sides) = head.into_iter().unzip();
        Self { sides, lines: vec![head], padded: true }
    }

    /// The same table without padding.
    #[must_use]
    pub fn compact(self) -> Self {
        Self { padded: false, ..self }
    }

    /// Appends a row, which is cut or filled up to the number of columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut cells: Vec<Cell> = cells.into_iter().collect();
        cells.resize(self.sides.len(), Cell::default());
        self.lines.push(cells);
    }

    /// The text, with a line break at its end.
    #[must_use]
    pub fn finish(&self) -> String {
        if !self.padded {
            return self.unpadded();
        }
        let mut text = String::new();
        let width = |c: usize| self.lines.iter().map(|l| l[c].0.chars().count()).max().unwrap_or(0).max(3);
        let widths: Vec<usize> = (0..self.sides.len()).map(width).collect();
        for (i, line) in self.lines.iter().enumerate() {
            text.push('|');
            for ((cell, &width), side) in line.iter().zip(&widths).zip(&self.sides) {
                // Not by a width in the format: that ends at 65,535.
                let pad = " ".repeat(width - cell.0.chars().count());
                let _ = match side {
                    Side::Left => write!(text, " {}{pad} |", cell.0),
                    Side::Right => write!(text, " {pad}{} |", cell.0),
                };
            }
            text.push('\n');
            if i == 0 {
                text.push('|');
                for (width, side) in widths.iter().zip(&self.sides) {
                    let dashes = "-".repeat(width + 1);
                    text += &if *side == Side::Left { format!(":{dashes}|") } else { format!("{dashes}:|") };
                }
                text.push('\n');
            }
        }
        text
    }

    fn unpadded(&self) -> String {
        let mut text = String::new();
        for (i, line) in self.lines.iter().enumerate() {
            text.push('|');
            for cell in line {
                // A column without a name is narrow.
                let _ = if i == 0 && cell.0.is_empty() { write!(text, " |") } else { write!(text, " {} |", cell.0) };
            }
            text.push('\n');
            if i == 0 {
                text.push('|');
                self.sides.iter().for_each(|side| text += if *side == Side::Left { "---|" } else { "---:|" });
                text.push('\n');
            }
        }
        text
    }
}

/// Text within a line, in a cell, a heading or an item of a list: what Markdown would take for its own is escaped. Line
/// breaks and tabs become spaces, other control characters become visible.
#[must_use]
pub fn escaped(text: &str) -> String {
    let text = plain(text);
    let text = text.trim();
    let chars: Vec<char> = text.chars().collect();
    let word = |i: Option<usize>| i.and_then(|i| chars.get(i)).is_some_and(|c| c.is_alphanumeric());
    let mut out = String::with_capacity(text.len() + 8);
    for (i, &c) in chars.iter().enumerate() {
        let special = match c {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '~' | '$' => true,
            // Within a word it is a letter like any other: `ocr_teacher`.
            '_' => !(word(i.checked_sub(1)) && word(Some(i + 1))),
            '&' => chars.get(i + 1).is_some_and(|c| c.is_ascii_alphanumeric() || *c == '#'),
            // At the beginning: headings, lists, lines below a heading. At the end: the close of a heading.
            '#' => i == 0 || chars[i..].iter().all(|c| *c == '#'),
            '+' | '-' | '=' => i == 0 && (chars.len() == 1 || chars[1] == ' ' || chars[1] == c),
            '.' | ')' => i > 0 && i < 10 && chars[..i].iter().all(char::is_ascii_digit),
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Text as code in a paragraph: `` `ocr` ``. Not for cells of tables.
#[must_use]
pub fn code(text: &str) -> String {
    let text = plain(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') || text.trim().is_empty() { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// One line without anything that acts.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => out.push(' '),
            c if acts(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        for (text, expected) in [
            ("ocr_teacher 2.0 (NFT), C# & Co.", "ocr_teacher 2.0 (NFT), C# & Co."),
            ("a|b", "a\\|b"),
            ("*bold* _em_ __x `code` ~~gone~~", "\\*bold\\* \\_em\\_ \\_\\_x \\`code\\` \\~\\~gone\\~\\~"),
            ("[link](x) ![i](y) <b>", "\\[link\\](x) !\\[i\\](y) \\<b\\>"),
            ("&amp; &#124; a & b", "\\&amp; \\&#124; a & b"),
            ("a\\", "a\\\\"),
            ("# head", "\\# head"),
            ("head ##", "head \\#\\#"),
            ("- item", "\\- item"),
            ("-5", "-5"),
            ("---", "\\---"),
            ("===", "\\==="),
            ("12. item", "12\\. item"),
            ("2.5 beta", "2\\.5 beta"),
            ("$x$", "\\$x\\$"),
            (" two\r\nlines\tand more\n", "two lines and more"),
            ("\x1b[31m\u{202e}", "\\\\u{1b}\\[31m\\\\u{202e}"),
        ] {
            assert_eq!(escaped(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_title_may_be_of_any_length() {
        let mut table = Table::new([(Cell::text("model"), Side::Left)]);
        table.row([Cell::text(&"x".repeat(100_000))]);
        assert_eq!(table.finish().len(), 3 * 100_005);
    }

    #[test]
    fn code_has_a_fence_that_it_does_not_hold() {
        assert_eq!(code("ocr"), "`ocr`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`a"), "`` `a ``");
        assert_eq!(code("a\nb"), "`a b`");
    }

    #[test]
    fn tables_are_padded_and_keep_their_columns() {
        let mut table = Table::new([(Cell::text("model"), Side::Left), (Cell::text("a|b"), Side::Right)]);
        table.row([Cell::text("x | y\nz"), Cell::markup("**0.5**")]);
        table.row([Cell::text("short")]);
        assert_eq!(
            table.finish(),
            "| model    |    a\\|b |\n|:---------|--------:|\n| x \\| y z | **0.5** |\n| short    |         |\n"
        );
        assert_eq!(table.compact().finish(), "| model | a\\|b |\n|---|---:|\n| x \\| y z | **0.5** |\n| short |  |\n");
    }
}
