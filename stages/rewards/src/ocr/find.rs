//! Finding text: PP-OCRv4's detector and the boxes of its probability map (DB, Liao et al. 2020).
//!
//! Boxes are upright, where the reference takes tilted ones of least area, and holes in a region make no box of their own;
//! for level lines of text both give the same crops but for single pixels.

use std::sync::Mutex;

use ort::session::Session;
use ort::value::TensorRef;

use super::resize::{bilinear, push_planes};
use super::runtime::failed;
use crate::{Picture, RewardError};

/// The network halves its input five times.
const MULTIPLE: usize = 32;
/// Probability from which a pixel is text.
const TEXT: f32 = 0.3;
/// Mean probability from which a box is text.
const BOX: f32 = 0.5;
/// How far a box grows, as a multiple of its area over its perimeter.
const UNCLIP: f32 = 1.6;
/// Least side of a box before it grows, and of a box in the picture after.
const LEAST: f32 = 3.0;
/// Boxes whose tops differ by less than this many pixels are on one line.
const SAME_LINE: usize = 10;

/// Left, top, right, bottom in pixels; right and bottom are outside.
pub(super) type Bounds = [usize; 4];

/// The text detector.
pub(super) struct Finder {
    session: Mutex<Session>,
}

impl Finder {
    pub fn new(session: Session) -> Finder {
        Finder { session: Mutex::new(session) }
    }

    /// The boxes of text in each picture, in reading order. Pictures go one by one, so that what is found in one cannot
    /// depend on the others.
    pub fn find(&self, pictures: &[Picture]) -> Result<Vec<Vec<Bounds>>, RewardError> {
        let mut session = self.session.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut planes = Vec::new();
        let mut found = Vec::with_capacity(pictures.len());
        for picture in pictures {
            let (width, height) = (picture.width, picture.height);
            let round = |side: usize| ((side + MULTIPLE / 2) / MULTIPLE).max(1) * MULTIPLE;
            let (w, h) = (round(width), round(height));
            planes.clear();
            push_planes(&bilinear(picture, w, h), w, &mut planes);
            let input = TensorRef::from_array_view(([1, 3, h, w], planes.as_slice())).map_err(failed)?;
            let outputs = session.run(ort::inputs![input]).map_err(failed)?;
            let (shape, map) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
            if map.len() != w * h {
                return Err(RewardError::Model(format!("the text finder's output has shape {shape:?}")));
            }
            let scale = [width as f32 / w as f32, height as f32 / h as f32];
            found.push(reading_order(boxes(map, w, scale, [width, height])));
        }
        Ok(found)
    }
}

/// The boxes of one probability map of width `w`, in pixels of a picture of size `limit`.
fn boxes(map: &[f32], w: usize, scale: [f32; 2], limit: [usize; 2]) -> Vec<Bounds> {
    let h = map.len() / w;
    // As the reference does, regions first grow by a pixel to the right and below, which joins near letters.
    let text = |x: usize, y: usize| map[y * w + x] > TEXT;
    let grown = |x: usize, y: usize| {
        text(x, y) || (x > 0 && text(x - 1, y)) || (y > 0 && text(x, y - 1)) || (x > 0 && y > 0 && text(x - 1, y - 1))
    };
    let mut open: Vec<bool> = (0..map.len()).map(|i| grown(i % w, i / w)).collect();
    let mut out = Vec::new();
    for start in 0..open.len() {
        if !open[start] {
            continue;
        }
        open[start] = false;
        let (mut x0, mut y0, mut x1, mut y1) = (w, h, 0, 0);
        let mut stack = vec![start];
        while let Some(i) = stack.pop() {
            let (x, y) = (i % w, i / w);
            (x0, y0, x1, y1) = (x0.min(x), y0.min(y), x1.max(x), y1.max(y));
            for ny in y.saturating_sub(1)..(y + 2).min(h) {
                for nx in x.saturating_sub(1)..(x + 2).min(w) {
                    if std::mem::take(&mut open[ny * w + nx]) {
                        stack.push(ny * w + nx);
                    }
                }
            }
        }
        out.extend(unclip(map, w, [x0, y0, x1, y1], scale, limit));
    }
    out
}

/// Grows the box with corners at pixels (`x0`, `y0`) and (`x1`, `y1`), if it is likely and large enough.
fn unclip(map: &[f32], w: usize, [x0, y0, x1, y1]: [usize; 4], scale: [f32; 2], limit: [usize; 2]) -> Option<Bounds> {
    let (width, height) = ((x1 - x0) as f32, (y1 - y0) as f32);
    let pixels = (y0..=y1).flat_map(|y| &map[y * w + x0..=y * w + x1]);
    let mean = pixels.clone().sum::<f32>() / pixels.count() as f32;
    if width.min(height) < LEAST || mean < BOX {
        return None;
    }
    let by = UNCLIP * width * height / (2.0 * (width + height));
    let place = |v: f32, axis: usize| ((v * scale[axis]).round().max(0.0) as usize).min(limit[axis] - 1);
    let bounds =
        [place(x0 as f32 - by, 0), place(y0 as f32 - by, 1), place(x1 as f32 + by, 0), place(y1 as f32 + by, 1)];
    let large = |low: usize, high: usize| high as f32 - low as f32 > LEAST;
    (large(bounds[0], bounds[2]) && large(bounds[1], bounds[3])).then_some(bounds)
}

/// From top to bottom, and from left to right on one line.
fn reading_order(mut found: Vec<Bounds>) -> Vec<Bounds> {
    found.sort_by_key(|b| (b[1], b[0]));
    for i in 1..found.len() {
        let mut j = i;
        while j > 0 && found[j][1].abs_diff(found[j - 1][1]) < SAME_LINE && found[j][0] < found[j - 1][0] {
            found.swap(j, j - 1);
            j -= 1;
        }
    }
    found
}

/// The pixels of a box; one that is half as high again as wide is turned a quarter to the left, as upright text would be.
pub(super) fn crop(picture: &Picture, [x0, y0, x1, y1]: Bounds) -> Picture {
    let (width, height) = (x1 - x0, y1 - y0);
    let at = |x: usize, y: usize| picture.pixel(x0 + x, y0 + y);
    if height * 2 >= width * 3 {
        let rgb = (0..width).rev().flat_map(|x| (0..height).flat_map(move |y| at(x, y))).collect();
        return Picture { width: height, height: width, rgb };
    }
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| at(x, y))).collect();
    Picture { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_grows_by_hand() {
        // A bar of 11 x 5 pixels; growing to the right and below makes it 12 x 6, so sides 11 and 5 between pixel centres:
        // it grows by 1.6 x 55 / 32 = 2.75.
        let (w, h) = (32, 32);
        let map: Vec<f32> = (0..w * h)
            .map(|i| if (10..21).contains(&(i % w)) && (8..13).contains(&(i / w)) { 0.9 } else { 0.0 })
            .collect();
        assert_eq!(boxes(&map, w, [1.0, 1.0], [32, 32]), [[7, 5, 24, 16]]);
        assert_eq!(boxes(&map, w, [0.5, 0.5], [16, 16]), [[4, 3, 12, 8]]);
        assert!(boxes(&map.iter().map(|v| v * 0.5).collect::<Vec<_>>(), w, [1.0, 1.0], [32, 32]).is_empty());
    }

    #[test]
    fn lines_are_read_like_a_page() {
        let found = vec![[30, 4, 40, 9], [2, 9, 20, 14], [5, 30, 9, 40]];
        assert_eq!(reading_order(found), [[2, 9, 20, 14], [30, 4, 40, 9], [5, 30, 9, 40]]);
    }

    #[test]
    fn crops_are_cut_and_turned() {
        let picture = Picture::new(4, 4, (0..48).collect()).unwrap();
        let flat = crop(&picture, [1, 1, 3, 2]);
        assert_eq!((flat.width, flat.height, flat.rgb), (2, 1, vec![15, 16, 17, 18, 19, 20]));
        let tall = crop(&picture, [1, 1, 2, 3]);
        assert_eq!((tall.width, tall.height, tall.rgb), (2, 1, vec![15, 16, 17, 27, 28, 29]));
    }
}
