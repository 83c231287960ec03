//! A drawing as SVG. The same drawing gives the same bytes.

use super::drawing::{Anchor, Colour, Drawing, LETTER, Mark};
use opdflow_io::xml::escaped;
use std::fmt::Write as _;

/// The text of an SVG file.
pub fn svg(drawing: &Drawing) -> String {
    let Drawing { width, height, marks } = drawing;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"system-ui, sans-serif\" font-size=\"{:.0}\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        LETTER.0 + 1.0
    );
    for mark in marks {
        let _ = match mark {
            Mark::Line { points, width, colour } => {
                let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                let (line, colour) = (line.join(" "), hex(*colour));
                writeln!(
                    out,
                    "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
                )
            }
            Mark::Dot { at: (x, y), radius, colour } => {
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{}\"/>", hex(*colour))
            }
            Mark::Words { at: (x, y), text, from } => {
                let anchor = match from {
                    Anchor::Left => "start",
                    Anchor::Middle => "middle",
                    Anchor::Right => "end",
                };
                writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(text))
            }
        };
    }
    out + "</svg>\n"
}

fn hex([r, g, b]: Colour) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::super::plot::tests::drawing;

    #[test]
    fn all_marks_are_there() {
        let text = super::svg(&drawing());
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert_eq!(text.matches("<circle ").count(), 9);
        assert!(text.contains(">Scores &amp; time</text>") && text.contains(">cascade, NFT</text>"), "{text}");
        assert!(!text.contains("NaN"), "{text}");
    }
}
