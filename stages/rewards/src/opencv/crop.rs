//! A four-cornered piece of an image, laid flat: OpenCV's `warpPerspective` with `INTER_CUBIC` and `BORDER_REPLICATE`.
//!
//! As OpenCV 5.0 does it, with exact places and not those of a table.

use crate::Image;

/// Parameter of the cubic kernel (Keys 1981), OpenCV's choice.
const SHARPNESS: f64 = -0.75;

/// The piece with these corners (x, y in pixels; upper left, upper right, lower right, lower left) as an image of
/// `width` x `height`, neither of them 0. Corner (0, 0) of the result is the first corner, and (`width`, `height`) the third.
pub fn crop(image: &Image, corners: [[f32; 2]; 4], width: usize, height: usize) -> Image {
    let map = Map::onto(corners, width as f64, height as f64);
    let mut rgb = Vec::with_capacity(3 * width * height);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        rgb.extend(cubic(image, map.at(x as f64, y as f64)));
    }
    Image { width, height, rgb }
}

/// A projective map: numerators of x and y, and the denominator, each as factors of x, y and 1.
struct Map([[f64; 3]; 3]);

impl Map {
    /// The one that takes the corners of a rectangle at the origin to `corners` (Heckbert 1989, section 2.2.3).
    fn onto(corners: [[f32; 2]; 4], width: f64, height: f64) -> Map {
        let [a, b, c, d] = corners.map(|p| p.map(f64::from));
        let from = |p: [f64; 2], q: [f64; 2]| [p[0] - q[0], p[1] - q[1]];
        let cross = |p: [f64; 2], q: [f64; 2]| p[0] * q[1] - p[1] * q[0];
        let (bc, dc) = (from(b, c), from(d, c));
        let bend = [a[0] - b[0] + c[0] - d[0], a[1] - b[1] + c[1] - d[1]];
        let whole = cross(bc, dc);
        let (g, h) = (cross(bend, dc) / whole, cross(bc, bend) / whole);
        let row = |i: usize| [(b[i] - a[i] + g * b[i]) / width, (d[i] - a[i] + h * d[i]) / height, a[i]];
        Map([row(0), row(1), [g / width, h / height, 1.0]])
    }

    fn at(&self, x: f64, y: f64) -> [f64; 2] {
        let [u, v, w] = self.0.map(|r| r[0] * x + r[1] * y + r[2]);
        [u / w, v / w]
    }
}

/// Weights of the four pixels about a place that is `t`, from 0 to 1, beyond the second of them.
fn weights(t: f64) -> [f64; 4] {
    let near = |t: f64| ((SHARPNESS + 2.0) * t - (SHARPNESS + 3.0)) * t * t + 1.0;
    let far = |t: f64| ((SHARPNESS * t - 5.0 * SHARPNESS) * t + 8.0 * SHARPNESS) * t - 4.0 * SHARPNESS;
    let (first, second, third) = (far(t + 1.0), near(t), near(1.0 - t));
    [first, second, third, 1.0 - first - second - third]
}

/// The image at a place between pixels; beyond the edge it is as at the edge.
fn cubic(image: &Image, [x, y]: [f64; 2]) -> [u8; 3] {
    let taps = |at: f64, size: usize| {
        let low = at.floor();
        let place = |i: i64| (low as i64).saturating_add(i - 1).clamp(0, size as i64 - 1) as usize;
        ([0, 1, 2, 3].map(place), weights(at - low))
    };
    let ((columns, across), (rows, down)) = (taps(x, image.width), taps(y, image.height));
    let mut sum = [0.0; 3];
    for (row, v) in rows.into_iter().zip(down) {
        for (column, w) in columns.into_iter().zip(across) {
            let pixel = image.pixel(column, row);
            (0..3).for_each(|c| sum[c] += v * w * f64::from(pixel[c]));
        }
    }
    sum.map(|s| s.round_ties_even().clamp(0.0, 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> Image {
        let level = |x: usize, y: usize| [(20 * x) as u8, (20 * y) as u8, (10 * (x + y)) as u8];
        Image::new(10, 8, (0..80).flat_map(|i| level(i % 10, i / 10)).collect()).unwrap()
    }

    #[test]
    fn a_level_piece_is_cut_out_as_it_is() {
        let piece = crop(&ramp(), [[2.0, 1.0], [7.0, 1.0], [7.0, 4.0], [2.0, 4.0]], 5, 3);
        let want: Vec<u8> = (1..4).flat_map(|y| (2..7).flat_map(move |x| ramp().pixel(x, y))).collect();
        assert_eq!((piece.width, piece.height, piece.rgb), (5, 3, want));
    }

    #[test]
    fn a_turned_piece_is_opencvs() {
        // What OpenCV 5.0.0 gave: getPerspectiveTransform to [[0, 0], [5, 0], [5, 3], [0, 3]], then warpPerspective.
        let want = [
            [80, 150, 4, 154, 217, 151, 102, 188, 124, 26, 59, 165, 23, 30, 66],
            [65, 193, 42, 96, 118, 202, 157, 11, 103, 75, 31, 214, 21, 94, 68],
            [92, 255, 80, 65, 75, 194, 118, 33, 153, 147, 89, 213, 52, 128, 62],
        ];
        let level = |x: usize, y: usize| [37 * x * x, 53 * y + 11 * x, 29 * x * y + 7 * x].map(|v| (v % 256) as u8);
        let image = Image::new(10, 8, (0..80).flat_map(|i| level(i % 10, i / 10)).collect()).unwrap();
        let piece = crop(&image, [[4.0, 2.0], [8.0, 5.0], [6.2, 7.4], [2.2, 4.4]], 5, 3);
        // It computes with fewer bits, so that a half may round the other way.
        let far = piece.rgb.iter().zip(want.concat()).map(|(a, b): (&u8, u8)| a.abs_diff(b)).max();
        assert!(far.unwrap() <= 1, "{:?}", piece.rgb);
    }

    #[test]
    fn beyond_the_edge_it_is_as_at_the_edge() {
        let piece = crop(&ramp(), [[-3.0, 0.0], [2.0, 0.0], [2.0, 2.0], [-3.0, 2.0]], 5, 2);
        assert_eq!([piece.pixel(0, 0), piece.pixel(3, 0), piece.pixel(4, 1)], [[0, 0, 0], [0, 0, 0], [20, 20, 20]]);
        // Corners that are no quadrilateral at all do not fail.
        assert_eq!(crop(&ramp(), [[1.0, 1.0]; 4], 2, 2).rgb.len(), 12);
    }
}
