//! Lines and columns of many places in one text. To count from its start for each of them takes as long as the text, times
//! the places.

/// Bytes between the places whose columns are counted beforehand.
const STRIDE: usize = 4096;

/// Where the lines of a text begin, and how many characters stand before each stretch of it.
pub(crate) struct Places<'t> {
    text: &'t str,
    lines: Vec<usize>,
    characters: Vec<usize>,
}

/// A byte that begins a character.
fn begins(byte: &u8) -> bool {
    byte & 0xc0 != 0x80
}

impl<'t> Places<'t> {
    pub fn of(text: &'t str) -> Self {
        let bytes = text.as_bytes();
        let after = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(after).collect();
        let mut before = 0;
        let characters = std::iter::once(0)
            .chain(bytes.chunks(STRIDE).map(|stretch| {
                before += stretch.iter().filter(|b| begins(b)).count();
                before
            }))
            .collect();
        Self { text, lines, characters }
    }

    /// Line and column of a byte, both from 1; columns count characters.
    pub fn place(&self, byte: usize) -> (usize, usize) {
        let byte = self.text.floor_char_boundary(byte);
        let line = self.lines.partition_point(|start| *start <= byte);
        let start = self.lines[line - 1];
        (line, self.before(byte) - self.before(start) + 1)
    }

    /// The line that a byte stands in, without its end: where it begins, and where it ends.
    pub fn line(&self, byte: usize) -> std::ops::Range<usize> {
        let line = self.lines.partition_point(|start| *start <= byte);
        let end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        self.lines[line - 1]..end
    }

    /// How many characters stand before a byte.
    fn before(&self, byte: usize) -> usize {
        let stretch = byte / STRIDE;
        let rest = &self.text.as_bytes()[stretch * STRIDE..byte];
        self.characters[stretch] + rest.iter().filter(|b| begins(b)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_that_counting_finds() {
        let counted = |text: &str, byte: usize| {
            let before = &text[..text.floor_char_boundary(byte)];
            let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
            (before.matches('\n').count() + 1, column)
        };
        let long = "gr\u{f6}\u{df}e \u{1f600} x\n\n".repeat(900) + &"\u{e9}".repeat(5000);
        for text in ["", "a", "\n", "a\nb\n", "\u{e9}\n\u{e9}\u{e9}", &long] {
            let places = Places::of(text);
            for byte in (0..=text.len() + 3).filter(|b| b % 7 == 0 || *b < 100 || b + 100 > text.len()) {
                assert_eq!(places.place(byte), counted(text, byte), "{byte}");
            }
        }
        let places = Places::of("ab\ncd");
        assert_eq!((places.line(1), places.line(3), places.line(5)), (0..2, 3..5, 3..5));
    }
}
