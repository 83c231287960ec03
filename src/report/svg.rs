//! A sketch as SVG, from left to right: columns by depth, boxes near what they read, arrows round the boxes between.
//! Arrows from one box share a line for as far as they go the same way.
//! The same sketch gives the same bytes.
//!
//! Who has Graphviz takes `--format dot`. The placing is done here, and not by a crate, because the one there is in Rust
//! (layout-rs 0.1.3) took 13 s for a recipe of 1,000 stages, in a release build, and names outputs beside the arrows alone,
//! where the names of a large recipe lie on top of each other; here the mouse shows them.

use super::sketch::Sketch;
use opdflow_io::xml::escaped;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Height of a box, and of the gap below it.
const HEIGHT: f64 = 40.0;
const GAP: f64 = 18.0;
/// Height that an arrow takes where it passes a column.
const LANE: f64 = 10.0;
/// Room between columns, for the arrows to bend in.
const GUTTER: f64 = 64.0;
/// Width of a letter, at 13 pixels a little more than the widest common fonts need.
const LETTER: f64 = 7.9;
const MARGIN: f64 = 16.0;
/// Times that the columns are put in order again, there and back.
const SWEEPS: usize = 12;

/// A place in a column: a box, or the arrows of one box that pass.
#[derive(Clone, Debug)]
struct Spot {
    sketched: Option<usize>,
    before: Vec<usize>,
    after: Vec<usize>,
    y: f64,
}

impl Spot {
    const fn height(&self) -> f64 {
        if self.sketched.is_some() { HEIGHT } else { LANE }
    }
    fn middle(&self) -> f64 {
        self.y + self.height() / 2.0
    }
}

struct Layout {
    spots: Vec<Spot>,
    /// The spots of each column, from the top.
    columns: Vec<Vec<usize>>,
    /// The spots that each arrow goes through, its two ends among them.
    routes: Vec<Vec<usize>>,
}

/// The drawing.
#[must_use]
pub fn svg(sketch: &Sketch) -> String {
    let layout = Layout::of(sketch);
    let widths: Vec<f64> = layout.columns.iter().map(|c| width(sketch, &layout, c)).collect();
    let lefts: Vec<f64> = widths
        .iter()
        .scan(MARGIN, |x, w| {
            let left = *x;
            *x += w + GUTTER;
            Some(left)
        })
        .collect();
    let right = lefts.last().zip(widths.last()).map_or(MARGIN, |(x, w)| x + w) + MARGIN;
    let bottom = layout.spots.iter().map(|s| s.y + s.height()).fold(0.0, f64::max) + MARGIN;
    let mut column = vec![0; layout.spots.len()];
    for (x, spots) in layout.columns.iter().enumerate() {
        spots.iter().for_each(|s| column[*s] = x);
    }
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{right:.0}\" height=\"{bottom:.0}\" viewBox=\"0 0 {right:.0} {bottom:.0}\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n<title>{}</title>\n<style>rect {{ fill: #f6f8fa; stroke: #57606a; }} text {{ fill: #1f2328; }} .kind {{ fill: #57606a; font-size: 11px; }} path {{ fill: none; stroke: #8c959f; stroke-width: 1.2; }} path:hover {{ stroke: #0969da; stroke-width: 2.5; }} marker path {{ fill: #8c959f; stroke: none; }}</style>\n<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n",
        escaped(&sketch.title)
    );
    for (((from, to), outputs), route) in sketch.arrows.iter().zip(&layout.routes) {
        let mut line = String::new();
        for pair in route.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let (x, y) = (lefts[column[a]] + widths[column[a]], layout.spots[a].middle());
            let (to_x, to_y) = (lefts[column[b]], layout.spots[b].middle());
            if line.is_empty() {
                let _ = write!(line, "M{x:.1} {y:.1}");
            } else {
                // Straight past the boxes of a column.
                let _ = write!(line, "H{x:.1}");
            }
            let half = (x + to_x) / 2.0;
            let _ = write!(line, "C{half:.1} {y:.1} {half:.1} {to_y:.1} {to_x:.1} {to_y:.1}");
        }
        let (from, to) = (&sketch.boxes[*from].name, &sketch.boxes[*to].name);
        let about = escaped(&format!("{from} -> {to}: {}", outputs.join(", ")));
        let _ = writeln!(out, "<path d=\"{line}\" marker-end=\"url(#tip)\"><title>{about}</title></path>");
    }
    for (i, spot) in layout.spots.iter().enumerate() {
        let Some(sketched) = spot.sketched else { continue };
        let (x, y, w) = (lefts[column[i]], spot.y, widths[column[i]]);
        let (label, kind) = (escaped(&sketch.label(sketched)), escaped(&sketch.boxes[sketched].kind));
        if sketch.boxes[sketched].cells > 0 {
            let _ = writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{w:.1}\" height=\"{HEIGHT}\" rx=\"5\"/>",
                x + 4.0,
                y + 4.0
            );
        }
        let _ = writeln!(out, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{HEIGHT}\" rx=\"5\"/>");
        let (x, name, below) = (x + 10.0, y + 17.0, y + 32.0);
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{name:.1}\">{label}</text>");
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{below:.1}\" class=\"kind\">{kind}</text>");
    }
    out.push_str("</svg>\n");
    out
}

fn width(sketch: &Sketch, layout: &Layout, column: &[usize]) -> f64 {
    let letters = column
        .iter()
        .filter_map(|s| layout.spots[*s].sketched)
        .map(|i| sketch.label(i).chars().count().max(sketch.boxes[i].kind.chars().count()));
    #[expect(clippy::cast_precision_loss, reason = "a length of text")]
    let letters = letters.max().unwrap_or(0) as f64;
    (letters * LETTER + 20.0).max(60.0)
}

impl Layout {
    fn of(sketch: &Sketch) -> Self {
        let empty = |sketched| Spot { sketched, before: Vec::new(), after: Vec::new(), y: 0.0 };
        let mut spots: Vec<Spot> = (0..sketch.boxes.len()).map(|i| empty(Some(i))).collect();
        let depth = sketch.boxes.iter().map(|b| b.depth + 1).max().unwrap_or(0);
        let mut columns: Vec<Vec<usize>> = vec![Vec::new(); depth];
        for (i, one) in sketch.boxes.iter().enumerate() {
            columns[one.depth].push(i);
        }
        let mut routes = Vec::new();
        let mut lanes: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (from, to) in sketch.arrows.keys() {
            let mut route = vec![*from];
            // Folded cells may lie so that an arrow has no column to pass, or even leads back.
            let passed = columns.iter_mut().enumerate().take(sketch.boxes[*to].depth);
            for (at, column) in passed.skip(sketch.boxes[*from].depth + 1) {
                route.push(*lanes.entry((*from, at)).or_insert_with(|| {
                    spots.push(empty(None));
                    column.push(spots.len() - 1);
                    spots.len() - 1
                }));
            }
            route.push(*to);
            for pair in route.windows(2) {
                if !spots[pair[0]].after.contains(&pair[1]) {
                    spots[pair[0]].after.push(pair[1]);
                    spots[pair[1]].before.push(pair[0]);
                }
            }
            routes.push(route);
        }
        let mut layout = Self { spots, columns, routes };
        for _ in 0..SWEEPS {
            for column in 0..depth {
                layout.settle(column, |s| &s.before);
            }
            for column in (0..depth).rev() {
                layout.settle(column, |s| &s.after);
            }
        }
        let top = layout.spots.iter().map(|s| s.y).fold(f64::INFINITY, f64::min);
        layout.spots.iter_mut().for_each(|s| s.y += MARGIN - top);
        layout
    }

    /// Puts the spots of a column at the mean height of their neighbours on one side, in the order of these, and moves
    /// apart those that would overlap: each row of touching spots stays where its mean was.
    fn settle(&mut self, column: usize, neighbours: impl Fn(&Spot) -> &Vec<usize>) {
        let wish = |i: usize| {
            let near: Vec<f64> = neighbours(&self.spots[i]).iter().map(|n| self.spots[*n].middle()).collect();
            #[expect(clippy::cast_precision_loss, reason = "a few neighbours")]
            let mean = near.iter().sum::<f64>() / near.len().max(1) as f64;
            if near.is_empty() { self.spots[i].middle() } else { mean }
        };
        let mut order: Vec<(f64, usize)> = self.columns[column].iter().map(|i| (wish(*i), *i)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        // Rows of touching spots: their members, the wished top of the row, the number of wishes, and its height.
        let mut rows: Vec<(Vec<usize>, f64, f64, f64)> = Vec::new();
        for (middle, i) in &order {
            let height = self.spots[*i].height() + GAP;
            let mut row = (vec![*i], middle - self.spots[*i].height() / 2.0, 1.0, height);
            while let Some(above) = rows.pop_if(|above| above.1 + above.3 > row.1) {
                let (wishes, tall) = (above.2 + row.2, above.3 + row.3);
                let top = (above.1 * above.2 + (row.1 - above.3) * row.2) / wishes;
                row = ([above.0, row.0].concat(), top, wishes, tall);
            }
            rows.push(row);
        }
        for (members, mut y, _, _) in rows {
            for i in members {
                self.spots[i].y = y;
                y += self.spots[i].height() + GAP;
            }
        }
        self.columns[column] = order.into_iter().map(|(_, i)| i).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::super::sketch::{Sketch, StageBox};
    use super::*;

    fn sketch(depths: &[usize], arrows: &[(usize, usize)]) -> Sketch {
        let boxes = depths.iter().enumerate().map(|(i, depth)| StageBox {
            name: format!("stage_{i}"),
            kind: "kind".into(),
            cells: 0,
            depth: *depth,
        });
        let arrows = arrows.iter().map(|pair| (*pair, vec!["out".to_owned()]));
        Sketch { title: "a <b> & \"c\"\u{1}".into(), boxes: boxes.collect(), arrows: arrows.collect() }
    }

    #[test]
    fn nothing_overlaps_and_every_arrow_has_its_way() {
        // Two diamonds, and arrows over one column and two.
        let drawn = sketch(
            &[0, 0, 1, 1, 1, 2, 3],
            &[(0, 2), (0, 3), (1, 4), (2, 5), (3, 5), (4, 5), (5, 6), (0, 5), (0, 6), (1, 6)],
        );
        let layout = Layout::of(&drawn);
        for column in &layout.columns {
            for pair in column.windows(2) {
                let (above, below) = (&layout.spots[pair[0]], &layout.spots[pair[1]]);
                assert!(above.y + above.height() <= below.y + 1e-6, "{above:?} {below:?}");
            }
        }
        let ends: Vec<(usize, usize)> = layout.routes.iter().map(|w| (w[0], w[w.len() - 1])).collect();
        assert_eq!(ends, drawn.arrows.keys().copied().collect::<Vec<_>>());
        assert_eq!(layout.routes.iter().map(Vec::len).max(), Some(4));
        // The two arrows that pass the second column from box 0 share a lane there: four in all, not five.
        assert_eq!(layout.spots.len(), drawn.boxes.len() + 4, "{:?}", layout.routes);
        assert_eq!(svg(&drawn), svg(&drawn.clone()));
    }

    #[test]
    fn text_cannot_leave_its_place() {
        let text = svg(&sketch(&[0], &[]));
        assert!(text.contains("<title>a &lt;b&gt; &amp; &quot;c&quot;\\u{1}</title>"), "{text}");
        assert_eq!(text.matches("<rect").count(), 1);
    }

    #[test]
    fn nothing_and_arrows_that_lead_back_are_drawn_too() {
        assert!(svg(&Sketch::default()).ends_with("</svg>\n"));
        let back = svg(&sketch(&[1, 0, 2], &[(0, 1), (2, 2), (2, 0)]));
        assert_eq!(back.matches("<path d=\"M").count(), 4, "three and the tip: {back}");
    }
}
