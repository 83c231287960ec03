//! The texts of a recipe and of the recipes that it includes, one behind the other. A span points into the whole, so that
//! every value knows its file, its line and its column by one range of bytes.

use crate::recipe::text::places::Places;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Most bytes of a recipe or a file of variables: texts that people write.
pub(crate) const MOST: u64 = 32 << 20;

/// A range of bytes in the texts of a recipe ([`Sources`]).
pub type Span = Range<usize>;

/// A recipe's own text first, then those of what it includes, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    text: String,
    files: Vec<File>,
}

/// One file, and where its text stands in the whole.
#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    span: Span,
}

impl Sources {
    /// One text alone.
    #[must_use]
    pub fn one(path: &Path, text: &str) -> Self {
        let mut sources = Self::default();
        sources.add(path, text);
        sources
    }

    /// Puts a text behind the others; where it begins.
    pub(crate) fn add(&mut self, path: &Path, text: &str) -> usize {
        // Every file begins on a line of its own, so that its columns are those of the whole.
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        let start = self.text.len();
        self.text.push_str(text);
        self.files.push(File { path: path.to_owned(), span: start..self.text.len() });
        start
    }

    /// All texts in one, which spans point into.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Each file with its own text; the recipe itself comes first.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files.iter().map(|f| (f.path.as_path(), &self.text[f.span.clone()]))
    }

    /// The number of the file that a byte stands in.
    pub(crate) fn file(&self, byte: usize) -> usize {
        self.files.partition_point(|f| f.span.start <= byte).saturating_sub(1)
    }

    /// The file that a byte stands in.
    #[must_use]
    pub fn path(&self, byte: usize) -> &Path {
        self.files.get(self.file(byte)).map_or(Path::new(""), |f| f.path.as_path())
    }

    /// Line and column of a byte in its own file, both from 1; columns count characters.
    #[must_use]
    pub fn place(&self, byte: usize) -> (usize, usize) {
        self.place_by(byte, &Places::of(&self.text))
    }

    /// The same with the places of the whole at hand.
    pub(crate) fn place_by(&self, byte: usize, places: &Places<'_>) -> (usize, usize) {
        let (line, column) = places.place(byte);
        let start = self.files.get(self.file(byte)).map_or(0, |f| f.span.start);
        (line + 1 - places.place(start).0, column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_that_of_its_own_file() {
        let mut sources = Sources::one(Path::new("a.yaml"), "one: 1\ntwo: 2");
        let start = sources.add(Path::new("b.yaml"), "x: 1\nyz: 3\n");
        let last = sources.add(Path::new("c.yaml"), "");
        assert_eq!((sources.path(7), sources.place(7)), (Path::new("a.yaml"), (2, 1)));
        assert_eq!((sources.path(start + 6), sources.place(start + 6)), (Path::new("b.yaml"), (2, 2)));
        assert_eq!((sources.path(last), sources.place(last)), (Path::new("c.yaml"), (1, 1)));
        let texts: Vec<&str> = sources.files().map(|(_, text)| text).collect();
        assert_eq!(texts, ["one: 1\ntwo: 2", "x: 1\nyz: 3\n", ""]);
    }
}
