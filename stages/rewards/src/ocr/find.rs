//! Finding text: PP-OCR's detector and the boxes of its probability map (DB, Liao et al. 2020).
//!
//! A box is the rectangle of least area round a region, at any angle, as in PaddleOCR and RapidOCR.

use ort::value::TensorRef;

use super::prepare::{finder_size, finder_values, planes};
use super::reading::Reading;
use super::rectangle::{Corners, around, covered, grown, ordered};
use super::region::Mask;
use super::runtime::{Sessions, failed, finite};
use crate::opencv::{self, linear};
use crate::{Image, RewardError};

/// Probability from which a pixel is text.
const TEXT: f32 = 0.3;
/// Least side of a box before it grows, and of a box in the image after.
const LEAST: f32 = 3.0;
/// Least side of a box that has grown.
const LEAST_GROWN: f32 = LEAST + 2.0;
/// Boxes whose tops differ by less than this many pixels are on one line.
const SAME_LINE: f32 = 10.0;

/// The text detector.
pub(super) struct Finder {
    sessions: Sessions,
    reading: Reading,
}

impl Finder {
    pub fn new(sessions: Sessions, reading: Reading) -> Finder {
        Finder { sessions, reading }
    }

    /// The boxes of text in an image, in reading order.
    pub fn find(&self, image: &Image) -> Result<Vec<Corners>, RewardError> {
        let size = [image.width, image.height];
        let Some([w, h]) = finder_size(size[0], size[1], self.reading.resize) else { return Ok(Vec::new()) };
        let values = finder_values(&self.reading);
        let planes = planes(&linear(image, w, h), w, self.reading.channels, &values);
        self.sessions.with(|session| {
            let input = TensorRef::from_array_view(([1, 3, h, w], planes.as_slice())).map_err(failed)?;
            let outputs = session.run(ort::inputs![input]).map_err(failed)?;
            let (shape, map) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
            if map.len() != w * h {
                return Err(RewardError::Model(format!("the text finder's output has shape {shape:?}")));
            }
            finite(map, "finder")?;
            Ok(reading_order(boxes(map, w, size, &self.reading)))
        })
    }
}

/// The boxes of one probability map of width `w`, in pixels of an image of this size.
fn boxes(map: &[f32], w: usize, size: [usize; 2], reading: &Reading) -> Vec<Corners> {
    let h = map.len() / w;
    let text = |x: usize, y: usize| map[y * w + x] > TEXT;
    let mask = if reading.dilation { Mask::grown(w, h, text) } else { Mask::of(w, h, text) };
    mask.contours().iter().filter_map(|points| unclipped(map, [w, h], points, size, reading)).collect()
}

/// The box round a region, grown, if it is likely and large enough.
fn unclipped(
    map: &[f32],
    [w, h]: [usize; 2],
    points: &[[i64; 2]],
    size: [usize; 2],
    reading: &Reading,
) -> Option<Corners> {
    let (tight, shorter) = around(points)?;
    if shorter < LEAST || likely(map, w, h, tight) < reading.box_threshold {
        return None;
    }
    let (corners, shorter) = around(&grown(tight, reading.unclip_ratio))?;
    if shorter < LEAST_GROWN {
        return None;
    }
    let place = |v: f32, axis: usize| {
        let v = (v / [w, h][axis] as f32 * size[axis] as f32).round_ties_even();
        v.clamp(0.0, size[axis] as f32 - 1.0)
    };
    let corners = ordered(corners.map(|[x, y]| [place(x, 0), place(y, 1)]));
    let large = |other: [f32; 2]| distance(corners[0], other).floor() > LEAST;
    (large(corners[1]) && large(corners[3])).then_some(corners)
}

/// The mean probability within a box.
fn likely(map: &[f32], w: usize, h: usize, corners: Corners) -> f64 {
    let range = |axis: usize, size: usize| {
        let values = corners.map(|p| p[axis]);
        let (low, high) = values.into_iter().fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
        [low.floor(), high.ceil()].map(|v| v.clamp(0.0, size as f32 - 1.0) as usize)
    };
    let ([x0, x1], [y0, y1]) = (range(0, w), range(1, h));
    let (width, height) = (x1 - x0 + 1, y1 - y0 + 1);
    let inside = covered(corners.map(|[x, y]| [(x - x0 as f32) as i32, (y - y0 as f32) as i32]), width, height);
    let (mut sum, mut count) = (0.0, 0u32);
    for i in (0..width * height).filter(|i| inside[*i]) {
        sum += f64::from(map[(y0 + i / width) * w + x0 + i % width]);
        count += 1;
    }
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    ((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1])).sqrt()
}

/// From top to bottom, and from left to right on one line, by the upper left corners.
fn reading_order(mut found: Vec<Corners>) -> Vec<Corners> {
    found.sort_by(|a, b| a[0][1].total_cmp(&b[0][1]).then(a[0][0].total_cmp(&b[0][0])));
    for i in 1..found.len() {
        let mut j = i;
        while j > 0 && (found[j][0][1] - found[j - 1][0][1]).abs() < SAME_LINE && found[j][0][0] < found[j - 1][0][0] {
            found.swap(j, j - 1);
            j -= 1;
        }
    }
    found
}

/// The pixels of a box, laid flat; one that is half as high again as wide is turned a quarter to the left, as upright
/// text would be.
pub(super) fn crop(image: &Image, corners: Corners) -> Image {
    let [a, b, c, d] = corners;
    let side = |one: f32, other: f32| (one.max(other) as usize).max(1);
    let width = side(distance(a, b), distance(c, d));
    let height = side(distance(a, d), distance(b, c));
    let flat = opencv::crop(image, corners, width, height);
    if height * 2 < width * 3 {
        return flat;
    }
    let rgb = (0..width).rev().flat_map(|x| (0..height).map(move |y| (x, y))).flat_map(|(x, y)| flat.pixel(x, y));
    Image { width: height, height: width, rgb: rgb.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocr::reading::Preset;

    const V4: Reading = Preset::PpocrV4Ch.reading();

    fn map(w: usize, h: usize, p: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        (0..w * h).map(|i| p(i % w, i / w)).collect()
    }

    #[test]
    fn a_level_box_by_hand() {
        // A bar of 11 x 5 pixels; growing to the right and below makes it 12 x 6, so sides 11 and 5 between pixel centres:
        // it grows by 1.6 x 55 / 32 = 2.75, on whole pixels 3.
        let bar = map(32, 32, |x, y| if (10..21).contains(&x) && (8..13).contains(&y) { 0.9 } else { 0.0 });
        assert_eq!(boxes(&bar, 32, [32, 32], &V4), [[[7.0, 5.0], [24.0, 5.0], [24.0, 16.0], [7.0, 16.0]]]);
        // 3.5, 2.5 and 12, 8 round to even.
        assert_eq!(boxes(&bar, 32, [16, 16], &V4), [[[4.0, 2.0], [12.0, 2.0], [12.0, 8.0], [4.0, 8.0]]]);
        assert!(boxes(&bar.iter().map(|v| v * 0.5).collect::<Vec<_>>(), 32, [32, 32], &V4).is_empty());
    }

    #[test]
    fn a_tilted_bar_has_a_tilted_box() {
        // A bar of 40 x 8 about (32, 32), turned by 20 degrees. In an upright box its mean would be 0.3; in its own it is
        // nearly its 0.9.
        let (sin, cos) = 20f32.to_radians().sin_cos();
        let bar = map(64, 64, |x, y| {
            let (x, y) = (x as f32 - 32.0, y as f32 - 32.0);
            let within = (x * cos + y * sin).abs() <= 20.0 && (y * cos - x * sin).abs() <= 4.0;
            if within { 0.9 } else { 0.0 }
        });
        let found = boxes(&bar, 64, [64, 64], &V4);
        let [[a, b, _, d]] = found[..] else { panic!("{found:?}") };
        let angle = (b[1] - a[1]).atan2(b[0] - a[0]).to_degrees();
        assert!((angle - 20.0).abs() < 2.0, "{angle}");
        // Growing to the right and below adds sin + cos = 1.3 to each side: 41.3 by 9.3. It grows by 1.6 x 41.3 x 9.3 / 101.2
        // = 6.1 on each side.
        assert!((distance(a, b) - 53.5).abs() < 1.0 && (distance(a, d) - 21.5).abs() < 1.0, "{found:?}");
    }

    #[test]
    fn lines_are_read_like_a_page() {
        let at = |x: f32, y: f32| [[x, y], [x + 9.0, y], [x + 9.0, y + 5.0], [x, y + 5.0]];
        let found = vec![at(30.0, 4.0), at(2.0, 9.0), at(5.0, 30.0)];
        assert_eq!(reading_order(found), [at(2.0, 9.0), at(30.0, 4.0), at(5.0, 30.0)]);
    }

    #[test]
    fn crops_are_cut_and_turned() {
        let image = Image::new(4, 4, (0..48).collect()).unwrap();
        let flat = crop(&image, [[1.0, 1.0], [3.0, 1.0], [3.0, 2.0], [1.0, 2.0]]);
        assert_eq!((flat.width, flat.height, flat.rgb), (2, 1, vec![15, 16, 17, 18, 19, 20]));
        let tall = crop(&image, [[1.0, 1.0], [2.0, 1.0], [2.0, 3.0], [1.0, 3.0]]);
        assert_eq!((tall.width, tall.height, tall.rgb), (2, 1, vec![15, 16, 17, 27, 28, 29]));
    }
}
