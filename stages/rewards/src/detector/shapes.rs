//! The miniature's detector: coloured circles, squares and triangles on a dark ground.
//!
//! Saturated pixels are joined into blobs, and each blob is compared with the ideal outline of every shape at the best
//! nearby place and size. The overlap says both which shape it is and how well formed.

use crate::detector::{Detector, Object};
use crate::{Colour, Image, RewardError, Shape};

/// Difference of the largest and smallest channel from which a pixel belongs to an object.
const SATURATED: f32 = 64.0;
/// Largest and smallest side of an object in pixels.
const SIDES: [f32; 2] = [7.0, 20.0];
/// Fewest pixels of a blob; the smallest triangle has 50.
const LEAST: usize = 24;
/// Share of a blob's pixels that must agree on the colour, or else the blob is cut along its colours.
const AGREED: f32 = 0.8;
/// Overlap with the ideal outline (intersection over union) that gives confidence 0 and 1.
const OVERLAP: [f32; 2] = [0.45, 0.85];
/// Lead in overlap over the next best shape below which the shape is not told.
const LEAD: f32 = 0.02;

/// The detector of the miniature's shapes. Made for images with cells of 16 px; the ground must be dark or grey.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shapes;

impl Detector for Shapes {
    fn name(&self) -> &str {
        "shapes"
    }

    fn knows(&self, class: &str) -> bool {
        Shape::ALL.iter().any(|s| s.name() == class)
    }

    fn detect(&self, images: &[Image]) -> Result<Vec<Vec<Object>>, RewardError> {
        Ok(images.iter().map(|image| Field::of(image).objects()).collect())
    }

    fn colours(&self, image: &Image, objects: &[&Object]) -> Result<Vec<Option<String>>, RewardError> {
        let field = Field::of(image);
        Ok(objects.iter().map(|object| field.colour(object)).collect())
    }
}

/// An image as the detector sees it.
struct Field {
    width: usize,
    height: usize,
    /// Largest minus smallest channel.
    chroma: Vec<f32>,
    /// Index of the nearest colour of [`Colour::ALL`], by hue alone: blending with a dark ground keeps the hue.
    hue: Vec<usize>,
}

impl Field {
    /// The objects in it.
    fn objects(&self) -> Vec<Object> {
        let labels: Vec<Option<usize>> =
            self.chroma.iter().zip(&self.hue).map(|(c, hue)| (*c >= SATURATED).then_some(*hue)).collect();
        let mut objects = Vec::new();
        for blob in blobs(&labels, self.width, |_, _| true) {
            if agreement(&blob, &self.hue).1 >= AGREED {
                objects.extend(self.object(&blob));
                continue;
            }
            // Two objects of different colours that touch.
            let mut inside = vec![None; labels.len()];
            blob.iter().for_each(|&i| inside[i] = labels[i]);
            objects.extend(blobs(&inside, self.width, |a, b| a == b).iter().filter_map(|part| self.object(part)));
        }
        objects
    }

    /// The colour of an object.
    fn colour(&self, object: &Object) -> Option<String> {
        let [x0, y0, x1, y1] = object.bounds;
        let inside = |i: &usize| {
            let (x, y) = ((i % self.width) as f64 + 0.5, (i / self.width) as f64 + 0.5);
            self.chroma[*i] >= SATURATED && x > x0 && x < x1 && y > y0 && y < y1
        };
        let pixels: Vec<usize> = (0..self.chroma.len()).filter(inside).collect();
        let (hue, share) = agreement(&pixels, &self.hue);
        (share >= AGREED).then(|| Colour::ALL[hue].name().to_owned())
    }
}

impl Field {
    fn of(image: &Image) -> Field {
        let palette = Colour::ALL.map(|c| pure(c.rgb()).1);
        let (chroma, hue) = image
            .rgb
            .chunks_exact(3)
            .map(|p| {
                let (chroma, pure) = pure([f32::from(p[0]), f32::from(p[1]), f32::from(p[2])]);
                let distance = |q: &[f32; 3]| (0..3).map(|c| (q[c] - pure[c]).powi(2)).sum::<f32>();
                let nearest =
                    (0..palette.len()).min_by(|a, b| distance(&palette[*a]).total_cmp(&distance(&palette[*b])));
                (chroma, nearest.unwrap_or(0))
            })
            .unzip();
        Field { width: image.width, height: image.height, chroma, hue }
    }

    /// The object that a blob is, if it is one.
    fn object(&self, blob: &[usize]) -> Option<Object> {
        if blob.len() < LEAST {
            return None;
        }
        // The brightest quarter is free of blended edges.
        let mut levels: Vec<f32> = blob.iter().map(|&i| self.chroma[i]).collect();
        levels.sort_by(f32::total_cmp);
        let peak = levels[levels.len() * 7 / 8];
        let solid = blob.iter().filter(|&&i| self.chroma[i] >= 0.5 * peak);
        let (mut x0, mut y0, mut x1, mut y1) = (usize::MAX, usize::MAX, 0, 0);
        for &i in solid {
            let (x, y) = (i % self.width, i / self.width);
            (x0, y0, x1, y1) = (x0.min(x), y0.min(y), x1.max(x + 1), y1.max(y + 1));
        }
        let (w, h) = ((x1 - x0) as f32, (y1 - y0) as f32);
        if w.min(h) < SIDES[0] || w.max(h) > SIDES[1] {
            return None;
        }

        let patch = Patch::cut(self, blob, [x0, y0, x1, y1], peak);
        let middle = [(x0 + x1) as f32 / 2.0, (y0 + y1) as f32 / 2.0];
        let mut fits = Shape::ALL.map(|shape| (shape, patch.fit(shape, middle, (w + h) / 4.0)));
        fits.sort_by(|a, b| b.1.overlap.total_cmp(&a.1.overlap));
        let [(shape, best), (_, next), _] = fits;
        let confidence = ((best.overlap - OVERLAP[0]) / (OVERLAP[1] - OVERLAP[0])).clamp(0.0, 1.0);
        if best.overlap - next.overlap < LEAD || confidence == 0.0 {
            return None;
        }
        let [x, y] = best.middle;
        let side = |v: f32| f64::from(v);
        Some(Object {
            class: shape.name().to_owned(),
            bounds: [side(x - best.half), side(y - best.half), side(x + best.half), side(y + best.half)],
            confidence: f64::from(confidence),
            mask: None,
        })
    }
}

/// How much of each pixel round a blob the blob covers.
struct Patch {
    x0: usize,
    y0: usize,
    width: usize,
    cover: Vec<f32>,
}

/// An ideal shape laid over a patch.
#[derive(Clone, Copy)]
struct Fit {
    overlap: f32,
    middle: [f32; 2],
    half: f32,
}

impl Patch {
    fn cut(field: &Field, blob: &[usize], [x0, y0, x1, y1]: [usize; 4], peak: f32) -> Patch {
        let (x0, y0) = (x0.saturating_sub(2), y0.saturating_sub(2));
        let (x1, y1) = ((x1 + 2).min(field.width), (y1 + 2).min(field.height));
        let width = x1 - x0;
        let mut cover = vec![0.0; width * (y1 - y0)];
        for &i in blob {
            let (x, y) = (i % field.width, i / field.width);
            if (x0..x1).contains(&x) && (y0..y1).contains(&y) {
                cover[(y - y0) * width + x - x0] = (field.chroma[i] / peak).min(1.0);
            }
        }
        Patch { x0, y0, width, cover }
    }

    /// Intersection over union with a shape, over coverages.
    fn overlap(&self, shape: Shape, [x, y]: [f32; 2], half: f32) -> f32 {
        let (mut both, mut either) = (0.0, 0.0);
        for (i, cover) in self.cover.iter().enumerate() {
            let px = (self.x0 + i % self.width) as f32 + 0.5;
            let py = (self.y0 + i / self.width) as f32 + 0.5;
            let ideal = (shape.depth(px - x, py - y, half, half) + 0.5).clamp(0.0, 1.0);
            both += cover.min(ideal);
            either += cover.max(ideal);
        }
        both / f32::max(either, 1e-6)
    }

    /// The best place and size within a pixel of a first guess.
    fn fit(&self, shape: Shape, [x, y]: [f32; 2], half: f32) -> Fit {
        let mut best = Fit { overlap: 0.0, middle: [x, y], half };
        for step in [0.5, 0.25] {
            let from = best;
            for k in 0..27 {
                let shift = |axis: i32| step * ((k / axis % 3) - 1) as f32;
                let (middle, half) = ([from.middle[0] + shift(1), from.middle[1] + shift(3)], from.half + shift(9));
                let overlap = self.overlap(shape, middle, half);
                if overlap > best.overlap {
                    best = Fit { overlap, middle, half };
                }
            }
        }
        best
    }
}

/// Chroma, and the colour with its grey part taken out, scaled to 0..1.
fn pure(rgb: [f32; 3]) -> (f32, [f32; 3]) {
    let low = rgb[0].min(rgb[1]).min(rgb[2]);
    let chroma = rgb[0].max(rgb[1]).max(rgb[2]) - low;
    (chroma, rgb.map(|v| (v - low) / chroma.max(1.0)))
}

/// The commonest hue among some pixels and its share.
fn agreement(pixels: &[usize], hue: &[usize]) -> (usize, f32) {
    let mut votes = [0usize; Colour::ALL.len()];
    pixels.iter().for_each(|&i| votes[hue[i]] += 1);
    let most = (0..votes.len()).max_by_key(|&c| votes[c]).unwrap_or(0);
    (most, votes[most] as f32 / pixels.len().max(1) as f32)
}

/// Sets of labelled pixels joined through their sides; `same` says whether two labels may be joined.
fn blobs(labels: &[Option<usize>], width: usize, same: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut seen = vec![false; labels.len()];
    let mut out = Vec::new();
    for start in 0..labels.len() {
        if seen[start] || labels[start].is_none() {
            continue;
        }
        seen[start] = true;
        let mut blob = vec![start];
        let mut next = 0;
        while let Some(&i) = blob.get(next) {
            next += 1;
            let x = i % width;
            let neighbours = [
                (x > 0).then(|| i - 1),
                (x + 1 < width).then_some(i + 1),
                i.checked_sub(width),
                Some(i + width).filter(|j| *j < labels.len()),
            ];
            for j in neighbours.into_iter().flatten() {
                if let (false, Some(a), Some(b)) = (seen[j], labels[i], labels[j])
                    && same(a, b)
                {
                    seen[j] = true;
                    blob.push(j);
                }
            }
        }
        out.push(blob);
    }
    out
}
