//! A drawing as an image, at twice its size: drawn at four times its size, then each pixel the mean of four.

use super::drawing::{Anchor, Colour, Drawing, LETTER, Mark};
use crate::report::grid;
use font8x8::{BASIC_FONTS, UnicodeFonts as _};
use opdflow_rewards::Image;

/// Pixels of a unit while drawing.
const FINE: f64 = 4.0;

struct Paper {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// Draws the marks in their order.
pub fn raster(drawing: &Drawing) -> Image {
    // Even numbers, so that halving leaves nothing over.
    let size = |units: f64| 2 * ((units * FINE / 2.0).ceil().max(1.0) as usize);
    let (width, height) = (size(drawing.width), size(drawing.height));
    let mut paper = Paper { width, height, rgb: vec![255; width * height * 3] };
    for mark in &drawing.marks {
        match mark {
            Mark::Line { points, width, colour } => {
                points.windows(2).for_each(|w| paper.stroke(w[0], w[1], width / 2.0, *colour));
            }
            Mark::Dot { at, radius, colour } => paper.stroke(*at, *at, *radius, *colour),
            Mark::Words { at, text, from } => paper.words(*at, text, *from),
        }
    }
    let Paper { width, height, rgb } = paper;
    let fine = Image { width, height, rgb };
    grid::thumbnail(&fine, width.max(height) / 2)
}

impl Paper {
    fn dot(&mut self, x: f64, y: f64, colour: Colour) {
        if x >= 0.0 && y >= 0.0 && (x as usize) < self.width && (y as usize) < self.height {
            let at = (y as usize * self.width + x as usize) * 3;
            self.rgb[at..at + 3].copy_from_slice(&colour);
        }
    }

    /// Everything within `radius` of the line from `a` to `b`.
    fn stroke(&mut self, a: (f64, f64), b: (f64, f64), radius: f64, colour: Colour) {
        let [ax, ay, bx, by, radius] = [a.0, a.1, b.0, b.1, radius].map(|v| v * FINE);
        let (dx, dy) = (bx - ax, by - ay);
        let length = dx * dx + dy * dy;
        let rows = ((ay.min(by) - radius).floor() as i64)..=((ay.max(by) + radius).ceil() as i64);
        for row in rows {
            for column in ((ax.min(bx) - radius).floor() as i64)..=((ax.max(bx) + radius).ceil() as i64) {
                let (x, y) = (column as f64 + 0.5, row as f64 + 0.5);
                let along = if length > 0.0 { ((x - ax) * dx + (y - ay) * dy) / length } else { 0.0 };
                let along = along.clamp(0.0, 1.0);
                if (x - ax - along * dx).hypot(y - ay - along * dy) <= radius {
                    self.dot(x, y, colour);
                }
            }
        }
    }

    /// Letters of eight by eight squares. What is not ASCII becomes `?`.
    fn words(&mut self, at: (f64, f64), text: &str, from: Anchor) {
        let letters: Vec<char> = text.chars().collect();
        let wide = letters.len() as f64 * LETTER.1;
        let left = match from {
            Anchor::Left => at.0,
            Anchor::Middle => at.0 - wide / 2.0,
            Anchor::Right => at.0 - wide,
        };
        // A square of a letter in fine pixels: an eighth of its box.
        let (high, broad) = ((LETTER.0 * FINE / 8.0).round(), (LETTER.1 * FINE / 8.0).round());
        let top = (at.1 * FINE).round() - 7.0 * high;
        for (i, letter) in letters.into_iter().enumerate() {
            let Some(rows) = BASIC_FONTS.get(letter).or_else(|| BASIC_FONTS.get('?')) else { continue };
            let start = ((left + i as f64 * LETTER.1) * FINE).round();
            for (y, row) in rows.iter().enumerate() {
                for x in (0..8).filter(|x| row >> x & 1 == 1) {
                    for (dy, dx) in (0..high as usize).flat_map(|dy| (0..broad as usize).map(move |dx| (dy, dx))) {
                        let (x, y) = (start + f64::from(x) * broad + dx as f64, top + y as f64 * high + dy as f64);
                        self.dot(x, y, [60, 60, 60]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::drawing::{Anchor, Drawing, Mark};
    use super::super::plot::tests::drawing;
    use super::raster;

    #[test]
    fn marks_are_where_they_belong() {
        let red = [255, 0, 0];
        let line = Mark::Line { points: vec![(2.0, 5.0), (18.0, 5.0)], width: 2.0, colour: red };
        let dot = Mark::Dot { at: (30.0, 15.0), radius: 3.0, colour: [0, 0, 255] };
        let image = raster(&Drawing { width: 40.0, height: 20.0, marks: vec![line, dot] });
        assert_eq!((image.width, image.height), (80, 40));
        assert_eq!(image.pixel(20, 10), red);
        assert_eq!(image.pixel(20, 16), [255; 3]);
        assert_eq!(image.pixel(60, 30), [0, 0, 255]);
        assert_eq!(image.pixel(60, 20), [255; 3]);
    }

    #[test]
    fn words_leave_ink_on_their_side() {
        let ink = |from| {
            let words = Mark::Words { at: (50.0, 12.0), text: "HHHH".into(), from };
            let image = raster(&Drawing { width: 100.0, height: 16.0, marks: vec![words] });
            let dark = |xs: std::ops::Range<usize>| {
                xs.flat_map(|x| (0..32).map(move |y| (x, y))).filter(|(x, y)| image.pixel(*x, *y)[0] < 128).count()
            };
            (dark(0..100), dark(100..200))
        };
        assert!(ink(Anchor::Left).0 == 0 && ink(Anchor::Left).1 > 50);
        assert!(ink(Anchor::Right).1 == 0 && ink(Anchor::Right).0 > 50);
        let (left, right) = ink(Anchor::Middle);
        assert!(left > 20 && right > 20);
    }

    #[test]
    fn any_text_is_drawn() {
        let image = raster(&drawing());
        assert!(image.is_whole() && image.width > 700);
        let words = Mark::Words { at: (-5.0, 2.0), text: "naïve \u{4f60}".into(), from: Anchor::Middle };
        assert!(raster(&Drawing { width: 1.0, height: 1.0, marks: vec![words] }).is_whole());
    }
}
