//! CSV as RFC 4180 has it, with one addition for spreadsheets.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula and runs it. Text that begins so gets an
//! apostrophe in front, which spreadsheets do not show; numbers stay as they are. [`read`] takes it away again.

use crate::terminal::acts;
use csv::{ReaderBuilder, WriterBuilder};
use std::io;

/// A table that is being written: a head, and rows of as many fields.
pub struct Table(csv::Writer<Vec<u8>>);

impl Table {
    /// A table with this head.
    #[must_use]
    pub fn new<S: AsRef<str>>(head: impl IntoIterator<Item = S>) -> Self {
        let mut table = Self(WriterBuilder::new().flexible(true).from_writer(Vec::new()));
        table.row(head);
        table
    }

    /// Appends a row. Fields may be any text.
    pub fn row<S: AsRef<str>>(&mut self, fields: impl IntoIterator<Item = S>) {
        let fields: Vec<String> = fields.into_iter().map(|f| field(f.as_ref())).collect();
        // Writing to memory does not fail, and rows may differ in length.
        let _ = self.0.write_record(&fields);
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8(self.0.into_inner().unwrap_or_default()).unwrap_or_default()
    }
}

/// What begins a formula. The wide forms do so in some languages' spreadsheets.
fn begins_formula(c: char) -> bool {
    matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '＝' | '＋' | '－' | '＠')
}

/// A field before its quotes: without control characters, and no formula.
#[must_use]
pub fn field(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    if text.starts_with(begins_formula) && !is_number(text) {
        out.push('\'');
    }
    for c in text.chars() {
        if acts(c) && !matches!(c, '\n' | '\r' | '\t') { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// Whether a field is a plain number: `-0.25`, `1e-3`.
fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

/// Reads a table's rows, the head first. Rows may differ in length; what [`Table`] wrote is read as it was given, line
/// breaks and formulas included.
///
/// # Errors
/// Text that is no CSV.
pub fn read(text: &str) -> io::Result<Vec<Vec<String>>> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let plain = |field: &str| match field.strip_prefix('\'') {
        Some(rest) if rest.starts_with(begins_formula) && !is_number(rest) => rest.to_owned(),
        _ => field.to_owned(),
    };
    reader.records().map(|record| Ok(record.map_err(io::Error::other)?.iter().map(plain).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> String {
        let mut table = Table::new(["model", "x"]);
        table.row([text, "0.5"]);
        table.finish()
    }

    #[test]
    fn fields_by_hand() {
        assert_eq!(one("a, b"), "model,x\n\"a, b\",0.5\n");
        assert_eq!(one("say \"x\""), "model,x\n\"say \"\"x\"\"\",0.5\n");
        assert_eq!(one("a\nb"), "model,x\n\"a\nb\",0.5\n");
        assert_eq!(one("a\rb"), "model,x\n\"a\rb\",0.5\n");
        assert_eq!(one("a\x1b[2J\u{202e}"), "model,x\na\\u{1b}[2J\\u{202e},0.5\n");
        assert_eq!(one(""), "model,x\n,0.5\n");
    }

    #[test]
    fn text_is_no_formula_and_numbers_stay_numbers() {
        for text in ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "=HYPERLINK(\"x\")"] {
            let line = one(text);
            let cell = line.strip_prefix("model,x\n").unwrap().trim_start_matches('"');
            assert!(cell.starts_with('\''), "{line:?}");
        }
        for number in ["-0.25", "+3", "-1e-3", "0.5"] {
            assert_eq!(one(number), format!("model,x\n{number},0.5\n"));
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let rows = [["=1+1", "a\r\nb"], ["'quoted'", "-5"], ["say \"x\", y", "'=x"], ["", "ü"]];
        let mut table = Table::new(["a", "b"]);
        rows.iter().for_each(|row| table.row(row));
        let read = read(&table.finish()).unwrap();
        assert_eq!(read[0], ["a", "b"]);
        // The one text that reads as another: one that looks as if this program had written it.
        assert_eq!(read[3], ["say \"x\", y", "=x"]);
        for (row, expected) in read[1..].iter().zip(rows).filter(|(r, _)| r[1] != "=x") {
            assert_eq!(row, &expected);
        }
    }
}
