//! Pillow's resizing of 8-bit images, byte for byte: `Image.resize(size, BICUBIC)`.
//!
//! Rows first, then columns, with a rounded 8-bit image in between; weights are integers of 22 bits after the point
//! (`src/libImaging/Resample.c`). Published rewards were trained on such images, so that a smoother way to resize would
//! shift their scores.

use opdflow_rewards::Image;

/// Bits after the point of a weight: 32 less 8 for the channel and 2 for overshoot.
const BITS: u32 = 32 - 8 - 2;
/// How far the cubic reaches, in pixels of the smaller image.
const REACH: f64 = 2.0;
/// The cubic's parameter.
const A: f64 = -0.5;

/// The image at another size, 1x1 or more. A side that stays is not filtered.
#[must_use]
pub fn bicubic(image: &Image, width: usize, height: usize) -> Image {
    let Image { width: w, height: h, rgb } = image;
    let (line, pixel) = (3 * width, 3);
    let wide = match *w == width {
        true => rgb.clone(),
        false => {
            let taps = taps(*w, width);
            rgb.chunks_exact(3 * w).flat_map(|row| taps.iter().flat_map(|t| t.blend(row, pixel, pixel))).collect()
        }
    };
    let rgb = match *h == height {
        true => wide,
        false => taps(*h, height).iter().flat_map(|t| t.blend(&wide, line, line)).collect(),
    };
    Image { width, height, rgb }
}

/// The pixels of the old line that one pixel of the new line is made of.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

impl Tap {
    /// `count` neighbouring bytes of the result: each the weighted sum of the bytes `stride` apart in `from`.
    fn blend<'a>(&'a self, from: &'a [u8], stride: usize, count: usize) -> impl Iterator<Item = u8> + 'a {
        (0..count).map(move |at| {
            let start = self.first * stride + at;
            let taken = from[start..].iter().step_by(stride);
            let sum = taken.zip(&self.weights).fold(1 << (BITS - 1), |sum, (v, w)| sum + i32::from(*v) * w);
            (sum >> BITS).clamp(0, 255) as u8
        })
    }
}

/// One tap for each pixel of a line of `to` pixels made from one of `from`.
fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    // Downwards the filter is stretched, so that every old pixel counts.
    let stretch = scale.max(1.0);
    let reach = REACH * stretch;
    let tap = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weights: Vec<f64> = (first..end).map(|x| cubic((x as f64 - centre + 0.5) * (1.0 / stretch))).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |w: &f64| {
            let w = w / total * f64::from(1 << BITS);
            // Half away from nought, as Pillow rounds.
            (w + 0.5f64.copysign(w)) as i32
        };
        Tap { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(tap).collect()
}

/// Keys' cubic convolution.
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_image_stays_plain() {
        let grey = Image::new(5, 3, vec![77; 45]).unwrap();
        for (w, h) in [(1, 1), (5, 3), (2, 9), (40, 17)] {
            let other = bicubic(&grey, w, h);
            assert_eq!((other.width, other.height, other.rgb), (w, h, vec![77; w * h * 3]));
        }
    }

    // Halving a step of black and white: the taps are -3, -9, 29, 111, 111, 29, -9, -3 of 256, by the formula.
    #[test]
    fn halves_by_hand() {
        let row: Vec<u8> = (0..16).flat_map(|x| [if x < 8 { 0 } else { 255 }; 3]).collect();
        let half = bicubic(&Image::new(16, 1, row).unwrap(), 8, 1);
        let red: Vec<u8> = half.rgb.iter().step_by(3).copied().collect();
        assert_eq!(red, [0, 0, 0, 17, 238, 255, 255, 255]);
    }
}
