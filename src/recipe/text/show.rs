//! Diagnostics as text for people and as JSON for programs.

use crate::recipe::text::places::Places;
use crate::recipe::{Diagnostic, Diagnostics, Level};
use annotate_snippets::{AnnotationKind, Element, Group, Level as Mark, Origin, Renderer, Snippet, Title};
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::ops::Range;

/// As many mistakes are shown to people. To mend these first is quicker than to read on.
const SHOWN: usize = 100;

/// A line longer than this is shown in part.
const LONG: usize = 4096;

/// What of a long line is shown before a mistake, and as much behind its beginning.
const AROUND: usize = 160;

/// Lines further apart than this many bytes are shown apart.
const APART: usize = 1 << 16;

/// Whether standard error is a terminal that can do more than print lines one after the other. `TERM=dumb` says that it
/// cannot, and one without a name cannot be counted on.
#[must_use]
pub fn is_terminal() -> bool {
    let named = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    named && std::io::stderr().is_terminal()
}

/// Whether what goes to standard error may be coloured: it is a terminal and `NO_COLOR` is not set.
#[must_use]
pub fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && is_terminal()
}

impl Diagnostics {
    /// The first hundred of them, errors before warnings, with the lines of the recipe that they speak of, and a last
    /// line that counts all.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let places = Places::of(self.sources.text());
        let mut out = String::new();
        for diagnostic in self.shown() {
            out.push_str(&self.one(diagnostic, &places, &renderer));
            out.push_str("\n\n");
        }
        if let Some(more) = self.list.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            out.push_str(&format!("and {more} more, which `--json` lists\n\n"));
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    /// Those that people get to see, in the order of the text.
    fn shown(&self) -> Vec<&Diagnostic> {
        let of = |level| self.list.iter().enumerate().filter(move |(_, d)| d.level == level);
        let mut shown: Vec<_> = of(Level::Error).chain(of(Level::Warning)).take(SHOWN).collect();
        shown.sort_by_key(|(at, _)| *at);
        shown.into_iter().map(|(_, found)| found).collect()
    }

    /// All of them for programs: an object with `path`, `errors`, `warnings` and `diagnostics`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (errors, warnings) = self.counts();
        let places = Places::of(self.sources.text());
        let spot = |span: &Range<usize>, label: &str| {
            let place = |byte| self.sources.place_by(byte, &places);
            let ((line, column), (end_line, end_column)) = (place(span.start), place(span.end));
            let mut spot =
                json!({"line": line, "column": column, "end_line": end_line, "end_column": end_column, "label": label});
            let path = self.sources.path(span.start);
            // Of an included recipe; all else stands in the one that `path` names.
            if path != self.path {
                spot["path"] = json!(path.display().to_string());
            }
            spot
        };
        let list: Vec<Value> = self
            .list
            .iter()
            .map(|d| {
                let also: Vec<Value> = d.also.iter().map(|(span, label)| spot(span, label)).collect();
                let mut one = spot(&d.span, &d.label);
                one["code"] = json!(d.code);
                one["level"] = json!(d.level);
                one["title"] = json!(d.title);
                one["help"] = json!(d.help);
                one["also"] = json!(also);
                one
            })
            .collect();
        json!({"path": self.path.display().to_string(), "errors": errors, "warnings": warnings, "diagnostics": list})
    }

    fn summary(&self) -> String {
        let (errors, warnings) = self.counts();
        let say = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let path = self.path.display();
        match (errors, warnings) {
            (0, w) => format!("{path}: {}", say(w, "warning")),
            (e, 0) => format!("{path}: {}", say(e, "error")),
            (e, w) => format!("{path}: {}, {}", say(e, "error"), say(w, "warning")),
        }
    }

    fn one(&self, d: &Diagnostic, places: &Places<'_>, renderer: &Renderer) -> String {
        let mark = match d.level {
            Level::Error => Mark::ERROR,
            Level::Warning => Mark::WARNING,
        };
        let title = mark.primary_title(d.title.as_str()).id(d.code);
        let path = self.path.display().to_string();
        let mut main = if self.sources.text().is_empty() {
            // There is no text to show: the reason stands alone.
            let origin = annotate_snippets::Origin::path(path.as_str());
            let group = title.element(origin);
            if d.label.is_empty() { group } else { group.element(Mark::NOTE.message(d.label.as_str())) }
        } else {
            let mut views = vec![View::of(self.fit(&d.span), &d.label, AnnotationKind::Primary)];
            views.extend(d.also.iter().map(|(span, l)| View::of(self.fit(span), l, AnnotationKind::Context)));
            self.snippets(title, views, places)
        };
        if let Some(help) = &d.help {
            main = main.element(Mark::HELP.message(help.as_str()));
        }
        let groups: [Group<'_>; 1] = [main];
        renderer.render(&groups)
    }

    /// The lines of the text that `views` are of. Only these are handed on: the renderer goes through all that it gets.
    fn snippets<'s>(&'s self, title: Title<'s>, views: Vec<View<'s>>, places: &Places<'_>) -> Group<'s> {
        let mut parts: Vec<Excerpt<'s>> = Vec::new();
        for view in views {
            let line = places.line(view.span.start);
            let long = line.len() > LONG;
            let lines = if long { self.around(&view.span, &line) } else { line };
            let joined = |there: &Excerpt<'_>| lines.start.min(there.lines.start)..lines.end.max(there.lines.end);
            let together = |there: &Excerpt<'_>| self.sources.file(there.lines.start) == self.sources.file(lines.start);
            match parts.iter_mut().find(|there| !there.long && !long && joined(there).len() < APART && together(there))
            {
                Some(there) => {
                    there.lines = joined(there);
                    there.views.push(view);
                }
                None => parts.push(Excerpt { lines, long, views: vec![view] }),
            }
        }
        let mut elements: Vec<Element<'s>> = Vec::new();
        for Excerpt { lines, long, views } in parts {
            let path = self.sources.path(lines.start).display().to_string();
            let first = self.sources.place_by(lines.start, places).0;
            let mut snippet = Snippet::source(&self.sources.text()[lines.clone()]).line_start(first);
            if long {
                // The renderer would count columns from where the line is cut.
                let (line, column) = self.sources.place_by(views.first().map_or(lines.start, |v| v.span.start), places);
                elements.push(Origin::path(path).line(line).char_column(column).into());
            } else {
                snippet = snippet.path(path);
            }
            for View { span, label, kind } in views {
                let at = span.start - lines.start..span.end.min(lines.end) - lines.start;
                snippet = snippet.annotation(kind.span(at).label(label));
            }
            elements.push(snippet.into());
        }
        title.elements(elements)
    }

    /// What of a long line stands around a span.
    fn around(&self, span: &Range<usize>, line: &Range<usize>) -> Range<usize> {
        let text = self.sources.text();
        let start = text.floor_char_boundary(span.start.saturating_sub(AROUND)).max(line.start);
        start..text.ceil_char_boundary(span.start + AROUND).min(line.end)
    }

    /// A span that lies in the text, on its characters, and on one line: what runs over many lines is shown by its
    /// first.
    fn fit(&self, span: &Range<usize>) -> Range<usize> {
        let text = self.sources.text();
        let start = text.floor_char_boundary(span.start);
        let end = text.floor_char_boundary(span.end.max(start));
        let line = text[start..end].find(['\n', '\r']).map_or(end, |n| start + n);
        start..line
    }
}

/// Lines that are shown together.
struct Excerpt<'s> {
    lines: Range<usize>,
    /// Whether they are a part of one long line.
    long: bool,
    views: Vec<View<'s>>,
}

/// A place that is shown, and what is said of it.
struct View<'s> {
    span: Range<usize>,
    label: &'s str,
    kind: AnnotationKind,
}

impl<'s> View<'s> {
    fn of(span: Range<usize>, label: &'s str, kind: AnnotationKind) -> Self {
        Self { span, label, kind }
    }
}
