//! Diagnostics as text for people and as JSON for programs.

use super::{Diagnostic, Diagnostics, Level};
use annotate_snippets::{AnnotationKind, Group, Level as Mark, Renderer, Snippet};
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::ops::Range;

/// Whether what goes to standard error may be coloured: it is a terminal and `NO_COLOR` is not set.
#[must_use]
pub fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::io::stderr().is_terminal()
}

impl Diagnostics {
    /// All of them, with the lines of the recipe that they speak of, and a last line that counts.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for diagnostic in &self.list {
            out.push_str(&self.one(diagnostic, &renderer));
            out.push_str("\n\n");
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    /// The same for programs: an object with `path`, `errors`, `warnings` and `diagnostics`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (errors, warnings) = self.counts();
        let list: Vec<Value> = self
            .list
            .iter()
            .map(|d| {
                let also: Vec<Value> = d.also.iter().map(|(span, label)| self.spot(span, label)).collect();
                let mut one = self.spot(&d.span, &d.label);
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

    fn spot(&self, span: &Range<usize>, label: &str) -> Value {
        let ((line, column), (end_line, end_column)) = (self.place(span.start), self.place(span.end));
        json!({"line": line, "column": column, "end_line": end_line, "end_column": end_column, "label": label})
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

    fn one(&self, d: &Diagnostic, renderer: &Renderer) -> String {
        let mark = match d.level {
            Level::Error => Mark::ERROR,
            Level::Warning => Mark::WARNING,
        };
        let title = mark.primary_title(d.title.as_str()).id(d.code);
        let path = self.path.display().to_string();
        let mut main = if self.text.is_empty() {
            // There is no text to show: the reason stands alone.
            let origin = annotate_snippets::Origin::path(path.as_str());
            let group = title.element(origin);
            if d.label.is_empty() { group } else { group.element(Mark::NOTE.message(d.label.as_str())) }
        } else {
            let mut snippet = Snippet::source(self.text.as_str()).path(path.as_str());
            snippet = snippet.annotation(AnnotationKind::Primary.span(self.fit(&d.span)).label(d.label.as_str()));
            for (span, label) in &d.also {
                snippet = snippet.annotation(AnnotationKind::Context.span(self.fit(span)).label(label.as_str()));
            }
            title.element(snippet)
        };
        if let Some(help) = &d.help {
            main = main.element(Mark::HELP.message(help.as_str()));
        }
        let groups: [Group<'_>; 1] = [main];
        renderer.render(&groups)
    }

    /// A span that lies in the text, on its characters, and on one line: what runs over many lines is shown by its
    /// first.
    fn fit(&self, span: &Range<usize>) -> Range<usize> {
        let floor = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(span.start);
        let end = floor(span.end.max(start));
        let line = self.text[start..end].find(['\n', '\r']).map_or(end, |n| start + n);
        start..line
    }
}
