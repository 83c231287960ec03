//! Anti-aliased drawing on a canvas of real numbers.

use opdflow_rewards::Image;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{Colour, SIDE};

/// A shade near the pure value of a colour, sRGB 0 to 255: each channel moved by at most `spread`.
pub(crate) fn shade(colour: Colour, spread: f32, rng: &mut ChaCha8Rng) -> [f32; 3] {
    colour.rgb().map(|v| (v + rng.random_range(-spread..=spread)).clamp(0.0, 255.0))
}

/// A 64x64 canvas; channels nominally 0 to 255, clamped only when it becomes an image.
pub(crate) struct Canvas {
    rgb: Vec<[f32; 3]>,
}

impl Canvas {
    /// A canvas whose pixel (x, y) is `at(x, y)`.
    pub fn fill(mut at: impl FnMut(usize, usize) -> [f32; 3]) -> Canvas {
        let mut rgb = Vec::with_capacity(SIDE * SIDE);
        for y in 0..SIDE {
            for x in 0..SIDE {
                rgb.push(at(x, y));
            }
        }
        Canvas { rgb }
    }

    /// Blends `colour` over the pixels of a box, each by the coverage that belongs to a signed distance in pixels
    /// (positive inside). The distance is asked at pixel centres, x + 1/2.
    pub fn paint(
        &mut self,
        [x0, y0, x1, y1]: [f32; 4],
        colour: impl Fn(f32, f32) -> [f32; 3],
        depth: impl Fn(f32, f32) -> f32,
    ) {
        let clip = |v: f32| v.clamp(0.0, SIDE as f32) as usize;
        for y in clip(y0.floor())..clip(y1.ceil()) {
            for x in clip(x0.floor())..clip(x1.ceil()) {
                let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
                let cover = (depth(px, py) + 0.5).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let over = colour(px, py);
                    let under = &mut self.rgb[y * SIDE + x];
                    for c in 0..3 {
                        under[c] += cover * (over[c] - under[c]);
                    }
                }
            }
        }
    }

    /// Adds the same grey noise to the three channels of each pixel, uniform in ±`amplitude`.
    pub fn grain(&mut self, amplitude: f32, rng: &mut ChaCha8Rng) {
        for pixel in &mut self.rgb {
            let n = rng.random_range(-1.0f32..=1.0) * amplitude;
            pixel.iter_mut().for_each(|v| *v += n);
        }
    }

    /// Scales the distance of each value from `middle`.
    pub fn contrast(&mut self, factor: f32, middle: f32) {
        for v in self.rgb.iter_mut().flatten() {
            *v = middle + factor * (*v - middle);
        }
    }

    /// Rounds to 8 bits.
    pub fn image(&self) -> Image {
        let rgb = self.rgb.iter().flatten().map(|v| v.round().clamp(0.0, 255.0) as u8).collect();
        Image { width: SIDE, height: SIDE, rgb }
    }
}

/// The dark, slightly uneven ground of the shapes and words: a tint and a slow slope of brightness.
pub(crate) fn dark_ground(rng: &mut ChaCha8Rng) -> Canvas {
    let level: f32 = rng.random_range(12.0..34.0);
    let tint: [f32; 3] = std::array::from_fn(|_| rng.random_range(-6.0..6.0));
    let (sx, sy): (f32, f32) = (rng.random_range(-8.0..8.0), rng.random_range(-8.0..8.0));
    let unit = |v: usize| (v as f32 + 0.5) / SIDE as f32 - 0.5;
    let mut canvas = Canvas::fill(|x, y| tint.map(|t| level + t + sx * unit(x) + sy * unit(y)));
    canvas.grain(1.5, rng);
    canvas
}

/// Distance from a point to a segment.
pub(crate) fn to_segment([px, py]: [f32; 2], [ax, ay]: [f32; 2], [bx, by]: [f32; 2]) -> f32 {
    let (dx, dy) = (bx - ax, by - ay);
    let length2 = (dx * dx + dy * dy).max(1e-9);
    let t = (((px - ax) * dx + (py - ay) * dy) / length2).clamp(0.0, 1.0);
    ((px - ax - t * dx).powi(2) + (py - ay - t * dy).powi(2)).sqrt()
}
