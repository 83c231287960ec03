//! YAML as values that know where they stand.
//!
//! The structure comes from `saphyr-parser`, which says where each thing begins and ends and lets us see a name that
//! is given twice; what a plain word means (`1`, `1.0`, `true`, `null`) is `serde_yaml`'s to say. What YAML allows
//! and a recipe does not (anchors, tags, merge keys) is refused here.

use crate::recipe::text::bound::{Bound, Extent};
use crate::recipe::{Diagnostic, Span};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// How deep lists and maps may lie in each other.
const DEPTH: usize = 48;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub span: Span,
    pub data: Data,
    /// The variable that it came from, if it is one as a whole.
    pub var: Option<Arc<Origin>>,
}

/// Where a variable's value came from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub name: String,
    pub set: SetAt,
}

/// What set a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetAt {
    /// The recipe, here under `vars`.
    Recipe(Span),
    /// Something outside of it, in words: `--set iters=…`, or `small.vars.yaml:3`.
    Outside(String),
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Something was wrong with it and has been reported.
    Unknown,
}

/// A name in a map, and what it names.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

impl Extent {
    /// A value and all below it.
    pub fn of(node: &Node) -> Self {
        let below = match &node.data {
            Data::Scalar(Value::String(text)) => Self::text(text),
            Data::List(items) => items.iter().map(Self::of).fold(Self::default(), Self::and),
            Data::Map(entries) => entries.iter().map(Self::of_entry).fold(Self::default(), Self::and),
            Data::Scalar(_) | Data::Unknown => Self::default(),
        };
        Self::VALUE.and(below)
    }
    /// A name in a map with its value.
    pub fn of_entry(entry: &Entry) -> Self {
        Self::name(&entry.key).and(Self::of(&entry.value))
    }
}

impl Node {
    pub fn new(span: Span, data: Data) -> Self {
        Self { span, data, var: None }
    }
    /// The entries, if it is a map.
    pub fn entries(&self) -> &[Entry] {
        if let Data::Map(entries) = &self.data { entries } else { &[] }
    }
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }
    /// The value at a path of names and indices.
    pub fn at(&self, path: &[String]) -> Option<&Node> {
        path.iter().try_fold(self, |node, step| match &node.data {
            Data::Map(_) => node.get(step).map(|e| &e.value),
            Data::List(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
    /// The same, to be changed.
    pub fn at_mut(&mut self, path: &[String]) -> Option<&mut Node> {
        path.iter().try_fold(self, |node, step| match &mut node.data {
            Data::Map(entries) => entries.iter_mut().find(|e| e.key == *step).map(|e| &mut e.value),
            Data::List(items) => items.get_mut(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
    /// Gives it, and all below it, another place: that of the variable whose value it becomes.
    pub fn stand_at(&mut self, span: Span) {
        match &mut self.data {
            Data::List(items) => items.iter_mut().for_each(|n| n.stand_at(span.clone())),
            Data::Map(entries) => entries.iter_mut().for_each(|e| {
                e.key_span = span.clone();
                e.value.stand_at(span.clone());
            }),
            Data::Scalar(_) | Data::Unknown => {}
        }
        self.span = span;
    }
    /// Moves it, and all below it, behind the texts that stand before its own.
    pub fn shift(&mut self, by: usize) {
        if by == 0 {
            return;
        }
        match &mut self.data {
            Data::List(items) => items.iter_mut().for_each(|n| n.shift(by)),
            Data::Map(entries) => entries.iter_mut().for_each(|e| {
                e.key_span = e.key_span.start + by..e.key_span.end + by;
                e.value.shift(by);
            }),
            Data::Scalar(_) | Data::Unknown => {}
        }
        self.span = self.span.start + by..self.span.end + by;
    }
    pub fn is_null(&self) -> bool {
        matches!(self.data, Data::Scalar(Value::Null))
    }
    /// The value alone. What has been reported is left out of maps and lists.
    pub fn json(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => items.iter().filter(|n| !matches!(n.data, Data::Unknown)).map(Self::json).collect(),
            Data::Map(entries) => entries
                .iter()
                .filter(|e| !matches!(e.value.data, Data::Unknown))
                .map(|e| (e.key.clone(), e.value.json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Data::Unknown => Value::Null,
        }
    }
    /// What it is, in words.
    pub fn found(&self) -> String {
        match &self.data {
            Data::Scalar(Value::Null) => "nothing".into(),
            Data::Scalar(Value::String(s)) => format!("the text {}", shown(s)),
            Data::Scalar(value) => format!("`{value}`"),
            Data::List(_) => "a list".into(),
            Data::Map(_) => "a map".into(),
            Data::Unknown => "something else".into(),
        }
    }
}

/// A user's text in backquotes: cut if it is long, and with nothing in it that could move the terminal's cursor.
pub(crate) fn shown(text: &str) -> String {
    let head: String = text.chars().take(40).collect();
    let mut out = opdflow_io::terminal::line(&head).into_owned();
    if text.chars().count() > 40 {
        out.push('…');
    }
    format!("`{out}`")
}

/// Reads the text. What is wrong goes to `faults`; `None` if there is no telling what it should be.
pub(crate) fn parse(text: &str, bound: &mut Bound, faults: &mut Vec<Diagnostic>) -> Option<Node> {
    // Places come as counts of characters, spans are in bytes. They are the same in most recipes.
    let bytes: Vec<usize> = match text.is_ascii() {
        true => Vec::new(),
        false => text.char_indices().map(|(at, _)| at).collect(),
    };
    let at = |index: usize| match bytes.is_empty() {
        true => index.min(text.len()),
        false => bytes.get(index).copied().unwrap_or(text.len()),
    };
    let mut builder = Builder { text, open: Vec::new(), root: None, bound, faults };
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                builder.syntax(&error, at(error.marker().index()));
                return None;
            }
        };
        let start = at(span.start.index());
        let span = start..at(span.end.index()).max(start);
        builder.take(event, span)?;
        if let Some(found) = builder.bound.fault() {
            builder.faults.push(found);
            return None;
        }
    }
    builder.root
}

/// What a plain word means.
pub(crate) fn scalar(text: &str) -> Value {
    let typed = text.len() <= 64
        && text.is_ascii()
        && !text.contains([' ', '\t', '\n', ':', '#', '{', '[', '&', '*', '!', '|', '>', '%', '@', '`', '"', '\''])
        && !text.starts_with("--");
    if text.is_empty() {
        return Value::Null;
    }
    let word = || Value::String(text.to_owned());
    // Most numbers are short whole ones.
    if text.len() < 19 && text.bytes().all(|c| c.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0')) {
        return text.parse::<u64>().map_or_else(|_| word(), Value::from);
    }
    // Of words that begin with a letter only `true`, `false` and `null` are none.
    let plain = |c: u8| c.is_ascii_alphabetic() && !b"tTfFnN".contains(&c);
    if !typed || text == "..." || text == "-" || text == "?" || text.bytes().next().is_some_and(plain) {
        return word();
    }
    match serde_yaml::from_str::<serde_yaml::Value>(text) {
        Ok(serde_yaml::Value::Null) => Value::Null,
        Ok(serde_yaml::Value::Bool(b)) => b.into(),
        Ok(serde_yaml::Value::Number(n)) => {
            if let Some(i) = n.as_i64() {
                i.into()
            } else if let Some(u) = n.as_u64() {
                u.into()
            } else {
                n.as_f64().and_then(serde_json::Number::from_f64).map_or_else(word, Value::Number)
            }
        }
        _ => word(),
    }
}

/// A list or map whose end has not come yet.
enum Open {
    List { start: Span, items: Vec<Node> },
    Map { start: Span, entries: Vec<Entry>, seen: HashMap<String, Span>, key: Option<(String, Span, bool)> },
}

struct Builder<'a> {
    text: &'a str,
    open: Vec<Open>,
    root: Option<Node>,
    bound: &'a mut Bound,
    faults: &'a mut Vec<Diagnostic>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse(anchor != 0, tag.is_some(), &span);
                let extent = if self.is_name() { Extent::name(&text) } else { Extent::VALUE.and(Extent::text(&text)) };
                self.bound.take(extent, &span);
                let value = if style == ScalarStyle::Plain { scalar(&text) } else { Value::String(text.to_string()) };
                if let Some(Open::Map { key: key @ None, seen, .. }) = self.open.last_mut() {
                    let first = seen.insert(text.to_string(), span.clone());
                    *key = Some((text.to_string(), span.clone(), first.is_none()));
                    self.check_key(&text, &span, first);
                } else {
                    self.put(Node::new(span, Data::Scalar(value)));
                }
            }
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) if self.open.len() >= DEPTH => {
                let _ = (anchor, tag);
                let label = format!("more than {DEPTH} lists and maps lie in each other here");
                self.faults.push(Diagnostic::error("E006", "the recipe is nested too deeply", span, label));
                return None;
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(anchor, tag.is_some(), &span)?;
                self.open.push(Open::List { start: span, items: Vec::new() });
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(anchor, tag.is_some(), &span)?;
                self.open.push(Open::Map { start: span, entries: Vec::new(), seen: HashMap::new(), key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span.end),
            Event::Alias(_) => {
                self.unsupported("an alias", "use `vars` or `defaults` for what several places share", &span);
                self.put(Node::new(span, Data::Unknown));
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                self.unsupported("a second document", "put each recipe into a file of its own", &span);
                return None;
            }
            _ => {}
        }
        Some(())
    }

    /// A list or map begins: not where a name is expected.
    fn begin(&mut self, anchor: usize, tag: bool, span: &Span) -> Option<()> {
        self.refuse(anchor != 0, tag, span);
        self.bound.take(Extent::VALUE, span);
        if self.is_name() {
            let help = "write a plain word as the name; put quotes around text that begins with `{` or `[`";
            self.unsupported("a list or map in the place of a name", help, span);
            return None;
        }
        Some(())
    }

    /// Whether what comes next is a name in a map.
    fn is_name(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn end(&mut self, end: usize) {
        let Some(open) = self.open.pop() else { return };
        let whole = |start: &Span| {
            let end = end.max(start.end);
            let end = start.start + self.text.get(start.start..end).map_or(0, |t| t.trim_end().len());
            start.start..end.max(start.end)
        };
        let node = match open {
            Open::List { start, items } => Node::new(whole(&start), Data::List(items)),
            Open::Map { start, entries, .. } => Node::new(whole(&start), Data::Map(entries)),
        };
        self.put(node);
    }

    fn put(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => {
                // Of a name that is given twice the first value stands, so that the rest can be checked.
                if let Some((key, key_span, true)) = key.take() {
                    // What a merge key would have brought is not known.
                    let node = if key == "<<" { Node::new(node.span, Data::Unknown) } else { node };
                    entries.push(Entry { key, key_span, value: node });
                }
            }
        }
    }

    fn check_key(&mut self, key: &str, span: &Span, first: Option<Span>) {
        if key == "<<" {
            self.unsupported("a merge key", "use `defaults` for what several stages share, or `vars`", span);
        } else if let Some(first) = first {
            let title = format!("{} is given twice", shown(key));
            let found =
                Diagnostic::error("E004", title, span.clone(), "given again here").also(first, "first given here");
            self.faults.push(found.help("keep one of the two"));
        }
    }

    fn refuse(&mut self, anchor: bool, tag: bool, span: &Span) {
        if anchor {
            self.unsupported("an anchor", "use `vars` or `defaults` for what several places share", span);
        }
        if tag {
            self.unsupported("a tag", "leave the tag out; put text in quotes", span);
        }
    }

    fn unsupported(&mut self, what: &str, help: &str, span: &Span) {
        let title = format!("{what} is not supported in a recipe");
        self.faults.push(Diagnostic::error("E005", title, span.clone(), "found here").help(help));
    }

    fn syntax(&mut self, error: &ScanError, at: usize) {
        let at = at.min(self.text.len());
        let end = self.text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
        let begin = self.text[..at].rfind('\n').map_or(0, |n| n + 1);
        let line = &self.text[begin..self.text[at..].find('\n').map_or(self.text.len(), |n| at + n)];
        let indent = &line[..line.len() - line.trim_start().len()];
        let help = if line.trim_start_matches(' ').starts_with('\t')
            || line.contains('\t') && error.info().contains("tab")
        {
            Some("indent with spaces: YAML does not allow tabs there")
        } else if indent.chars().any(is_strange_space) || self.text[..end].contains(is_strange_space) {
            Some(
                "the text holds no-break spaces or the like, which look as spaces and are none to YAML: write plain spaces",
            )
        } else if line.contains("${") {
            Some("put a variable in quotes: \"${name}\"")
        } else {
            None
        };
        let found = Diagnostic::error("E003", "the recipe is not valid YAML", at..end, error.info());
        self.faults.push(found.maybe_help(help.map(Into::into)));
    }
}

/// A space that YAML takes for a letter; text that is copied from a web page or a word processor holds some.
fn is_strange_space(c: char) -> bool {
    !c.is_ascii() && c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}' | '\u{2060}')
}

#[cfg(test)]
mod tests {
    use super::scalar;
    use serde_json::json;

    #[test]
    fn plain_words_mean_what_yaml_1_2_says() {
        for (word, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("null", json!(null)),
            ("true", json!(true)),
            ("False", json!(false)),
            ("yes", json!("yes")),
            ("12", json!(12)),
            ("-12", json!(-12)),
            ("+7", json!(7)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.0", json!(1.0)),
            ("3e-4", json!(3e-4)),
            (".5", json!(0.5)),
            ("0x1F", json!(31)),
            ("010", json!("010")),
            ("1_000", json!("1_000")),
            ("1.2.3", json!("1.2.3")),
            ("2026-11-23", json!("2026-11-23")),
            (".inf", json!(".inf")),
            (".nan", json!(".nan")),
            ("bundled:mini", json!("bundled:mini")),
            ("-", json!("-")),
            ("---", json!("---")),
            ("...", json!("...")),
            ("größe", json!("größe")),
        ] {
            assert_eq!(scalar(word), value, "{word}");
            assert_eq!(scalar(word).is_f64(), value.is_f64(), "{word}");
        }
        assert!(scalar(&"9".repeat(60)).is_number() || scalar(&"9".repeat(60)).is_string());
    }
}
