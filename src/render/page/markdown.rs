//! Markdown of stages as HTML. What is HTML in it is text: titles and prompts of users are in it.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

/// The HTML of a text.
pub(super) fn html(markdown: &str) -> String {
    let text = |event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        // A page that needs no network leads nowhere else, and a link of somebody's could be a script.
        Event::Start(Tag::Image { .. } | Tag::Link { .. }) | Event::End(TagEnd::Image | TagEnd::Link) => {
            Event::Text("".into())
        }
        other => other,
    };
    let mut out = String::new();
    html::push_html(&mut out, Parser::new_ext(markdown, Options::ENABLE_TABLES).map(text));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_tables_and_markup_of_others_is_text() {
        let found = html("| a | b |\n|---|---:|\n| <script>x</script> | **1** |\n");
        assert!(found.contains("<table>") && found.contains("<strong>1</strong>"), "{found}");
        assert!(!found.contains("<script>") && found.contains("&lt;script&gt;"), "{found}");
        assert_eq!(html("![x](http://example.org/y.png)"), "<p>x</p>\n");
        assert_eq!(html("[words](javascript:alert(1)) <javascript:alert(2)>"), "<p>words javascript:alert(2)</p>\n");
    }
}
