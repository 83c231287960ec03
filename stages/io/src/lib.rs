//! The border between this program and its users: files that they name, and text that comes from them.
//!
//! | module | what it is for |
//! |---|---|
//! | [`file`](mod@file) | opening a regular file, and nothing that could hang or never end |
//! | [`text`] | bytes as text: byte order marks, UTF-16, bytes that are no text |
//! | [`terminal`] | text on a terminal or in a log: nothing in it moves the cursor, nothing is endless |
//! | [`markdown`], [`latex`], [`csv`], [`xml`] | the same text in documents: it stays text, whatever it holds |
//!
//! Text that passes one of the writers here can be anything: names, titles, prompts, error messages of other programs.

pub mod csv;
pub mod file;
pub mod latex;
pub mod markdown;
pub mod terminal;
pub mod text;
pub mod xml;
