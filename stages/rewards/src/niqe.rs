//! The features of NIQE (Mittal, Soundararajan and Bovik 2013, "Making a completely blind image quality analyzer"): how the
//! light of an image is distributed about its local mean, at two scales, block by block.

use crate::Image;

/// How many features a block has: 18 at each of two scales.
pub const FEATURES: usize = 36;
/// Side of a block in pixels, as published. An image that holds no such block is one block itself.
const BLOCK: usize = 96;
/// Side of the Gaussian window, and its deviation.
const WINDOW: (usize, f64) = (7, 7.0 / 6.0);
/// Below this side in pixels there is too little to measure at the second scale.
pub const SMALLEST: usize = 16;

/// The features of every block of an image, in the published order: of each scale shape and mean deviation of the
/// normalised light, then for its products with the neighbour to the right, below, and on both diagonals shape, mean, left and
/// right deviation. `None` if a side is below [`SMALLEST`].
///
/// Light is luma of BT.601, 16 to 235, rounded. What an image without any contrast has no value for is 0.
#[must_use]
pub fn features(image: &Image) -> Option<Vec<[f64; FEATURES]>> {
    if image.width.min(image.height) < SMALLEST || !image.is_whole() {
        return None;
    }
    let side = |length: usize| if length < BLOCK { length - length % 2 } else { BLOCK };
    let (wide, high) = (side(image.width), side(image.height));
    let (columns, rows) = (image.width / wide, image.height / high);
    let mut plane = luma(image, columns * wide, rows * high);
    let mut blocks = vec![[0.0; FEATURES]; columns * rows];
    for scale in [1, 2] {
        let normal = normalised(&plane);
        let (wide, high) = (wide / scale, high / scale);
        for (at, found) in blocks.iter_mut().enumerate() {
            // The published order: down each column of blocks.
            let (column, row) = (at / rows, at % rows);
            let block = normal.cut(column * wide, row * high, wide, high);
            let half = FEATURES / 2 * (scale - 1);
            found[half..half + FEATURES / 2].copy_from_slice(&of_block(&block));
        }
        if scale == 1 {
            plane = plane.halved().turned().halved().turned();
        }
    }
    Some(blocks)
}

/// Numbers in rows.
struct Plane {
    width: usize,
    values: Vec<f64>,
}

impl Plane {
    fn height(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    fn map(&self, by: impl Fn(f64) -> f64) -> Plane {
        Plane { width: self.width, values: self.values.iter().map(|v| by(*v)).collect() }
    }

    fn turned(&self) -> Plane {
        let (width, height) = (self.width, self.height());
        let values = (0..width * height).map(|i| self.values[i % height * width + i / height]).collect();
        Plane { width: height, values }
    }

    fn cut(&self, x: usize, y: usize, width: usize, height: usize) -> Plane {
        let row = |row: usize| &self.values[(y + row) * self.width + x..][..width];
        Plane { width, values: (0..height).flat_map(row).copied().collect() }
    }

    /// Each row weighed by a window about each place; the value at the edge goes on beyond it.
    fn weighed(&self, window: &[f64]) -> Plane {
        let reach = window.len() / 2;
        let at = |row: &[f64], x: usize| -> f64 {
            let place = |i: usize| (x + i).saturating_sub(reach).min(row.len() - 1);
            window.iter().enumerate().map(|(i, weight)| weight * row[place(i)]).sum()
        };
        let values = self.values.chunks_exact(self.width).flat_map(|row| (0..row.len()).map(move |x| at(row, x)));
        Plane { width: self.width, values: values.collect() }
    }

    /// Rows of half the length: bicubic (Keys, a = -1/2), stretched so that nothing is folded back, mirrored at the edges, as MATLAB's
    /// `imresize` does.
    fn halved(&self) -> Plane {
        let keys = |x: f64| {
            let x = x.abs();
            match x {
                _ if x <= 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
                _ if x <= 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
                _ => 0.0,
            }
        };
        // Of each place the centre lies half a pixel behind the even one: taps from three before it to four after it.
        let taps: Vec<f64> = (-3..=4).map(|tap: i32| 0.5 * keys(0.5 * (f64::from(tap) - 0.5))).collect();
        let total: f64 = taps.iter().sum();
        let width = self.width as i64;
        let mirrored = |i: i64| {
            (if i < 0 {
                -1 - i
            } else if i >= width {
                2 * width - 1 - i
            } else {
                i
            }) as usize
        };
        let at = |row: &[f64], x: usize| -> f64 {
            let from = 2 * x as i64 - 3;
            taps.iter().zip(from..).map(|(weight, i)| weight / total * row[mirrored(i)]).sum()
        };
        let half = self.width / 2;
        let values = self.values.chunks_exact(self.width).flat_map(|row| (0..half).map(move |x| at(row, x)));
        Plane { width: half, values: values.collect() }
    }
}

/// Luma of the first `width` by `height` pixels.
fn luma(image: &Image, width: usize, height: usize) -> Plane {
    let of = |i: usize| {
        let [r, g, b] = image.pixel(i % width, i / width).map(f64::from);
        ((65.481 * r + 128.553 * g + 24.966 * b) / 255.0 + 16.0).round()
    };
    Plane { width, values: (0..width * height).map(of).collect() }
}

/// How far each value is from its local mean, by the local deviation and one.
fn normalised(plane: &Plane) -> Plane {
    let (side, deviation) = WINDOW;
    let centre = (side / 2) as f64;
    let window: Vec<f64> =
        (0..side).map(|i| (-(i as f64 - centre).powi(2) / (2.0 * deviation * deviation)).exp()).collect();
    let total: f64 = window.iter().sum();
    let window: Vec<f64> = window.iter().map(|w| w / total).collect();
    let weighed = |plane: &Plane| plane.weighed(&window).turned().weighed(&window).turned();
    let (mean, square) = (weighed(plane), weighed(&plane.map(|v| v * v)));
    let one = |((v, mean), square): ((&f64, &f64), &f64)| (v - mean) / ((square - mean * mean).abs().sqrt() + 1.0);
    let values = plane.values.iter().zip(&mean.values).zip(&square.values).map(one).collect();
    Plane { width: plane.width, values }
}

/// The 18 features of one scale of a block.
fn of_block(block: &Plane) -> [f64; FEATURES / 2] {
    let (width, height) = (block.width, block.height());
    let own = Bell::of(&block.values);
    let mut found = [0.0; FEATURES / 2];
    found[..2].copy_from_slice(&[own.shape, (own.left + own.right) / 2.0]);
    // By one to the right, one down, and both diagonals; round the edges.
    for (at, (right, down)) in [(1, 0), (0, 1), (1, 1), (width - 1, 1)].into_iter().enumerate() {
        let other = |i: usize| {
            let (x, y) = ((i % width + width - right) % width, (i / width + height - down) % height);
            block.values[i] * block.values[y * width + x]
        };
        let bell = Bell::of(&(0..width * height).map(other).collect::<Vec<_>>());
        found[2 + 4 * at..6 + 4 * at].copy_from_slice(&[bell.shape, bell.mean(), bell.left, bell.right]);
    }
    found
}

/// An asymmetric generalised normal distribution: a shape, and a scale on each side of zero.
struct Bell {
    shape: f64,
    left: f64,
    right: f64,
}

/// The shapes that are tried, 0.2 to 10, and each one's ratio of squared mean size to mean square.
fn shapes() -> &'static [(f64, f64)] {
    static SHAPES: std::sync::OnceLock<Vec<(f64, f64)>> = std::sync::OnceLock::new();
    SHAPES.get_or_init(|| {
        let one = |i: u32| {
            let shape = 0.2 + 0.001 * f64::from(i);
            let gamma = |times: f64| libm::tgamma(times / shape);
            (shape, gamma(2.0).powi(2) / (gamma(1.0) * gamma(3.0)))
        };
        (0..=9800).map(one).collect()
    })
}

impl Bell {
    /// The one whose moments are those of the values.
    fn of(values: &[f64]) -> Bell {
        let root_mean_square = |side: fn(&f64) -> bool| {
            let (count, sum) = values.iter().filter(|v| side(v)).fold((0_usize, 0.0), |(n, s), v| (n + 1, s + v * v));
            if count == 0 { 0.0 } else { (sum / count as f64).sqrt() }
        };
        let (left, right) = (root_mean_square(|v| *v < 0.0), root_mean_square(|v| *v > 0.0));
        let count = values.len() as f64;
        let square = values.iter().map(|v| v * v).sum::<f64>() / count;
        if square <= 0.0 {
            return Bell { shape: shapes()[0].0, left: 0.0, right: 0.0 };
        }
        let ratio = (values.iter().map(|v| v.abs()).sum::<f64>() / count).powi(2) / square;
        // Of one side to the other; the same either way round, so that the smaller is over the larger.
        let skew = left.min(right) / left.max(right);
        let wanted = ratio * (skew.powi(3) + 1.0) * (skew + 1.0) / (skew * skew + 1.0).powi(2);
        let far = |(_, found): &(f64, f64)| (found - wanted).powi(2);
        let shape = shapes().iter().min_by(|a, b| far(a).total_cmp(&far(b))).map_or(0.2, |(shape, _)| *shape);
        let scale = (libm::tgamma(1.0 / shape) / libm::tgamma(3.0 / shape)).sqrt();
        Bell { shape, left: left * scale, right: right * scale }
    }

    fn mean(&self) -> f64 {
        (self.right - self.left) * libm::tgamma(2.0 / self.shape) / libm::tgamma(1.0 / self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half the values of a normal distribution are as far out as its quantiles: shape 2, scale the deviation times root two.
    #[test]
    fn a_normal_distribution_has_shape_two() {
        // Quantiles by the sum of twelve uniform ones are not exact; a fine grid weighted by its density is.
        let mut values = Vec::new();
        for i in -400..=400_i32 {
            let x = f64::from(i) / 100.0;
            let often = ((-x * x / 2.0).exp() * 200.0).round() as usize;
            values.extend(std::iter::repeat_n(3.0 * x, often));
        }
        let bell = Bell::of(&values);
        assert!((bell.shape - 2.0).abs() < 0.03, "{}", bell.shape);
        for side in [bell.left, bell.right] {
            assert!((side - 3.0 * 2f64.sqrt()).abs() < 0.05, "{side}");
        }
        assert!(bell.mean().abs() < 1e-9);
    }

    #[test]
    fn halving_keeps_a_plain_row_and_a_slope() {
        let plain = Plane { width: 8, values: vec![5.0; 8] }.halved();
        assert!(plain.values.iter().all(|v| (v - 5.0).abs() < 1e-12));
        // In the middle of a slope the half-way value, which mirrored edges do not reach.
        let slope = Plane { width: 16, values: (0..16).map(f64::from).collect() }.halved();
        assert!((slope.values[3] - 6.5).abs() < 1e-12 && (slope.values[4] - 8.5).abs() < 1e-12);
    }

    #[test]
    fn an_image_without_contrast_has_features_too() {
        let plain = Image::new(64, 64, vec![90; 64 * 64 * 3]).unwrap();
        let found = features(&plain).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].iter().all(|v| v.is_finite()) && found[0][1] == 0.0);
        assert!(features(&Image::new(64, 15, vec![0; 64 * 15 * 3]).unwrap()).is_none());
        assert_eq!(features(&Image::new(200, 100, vec![0; 200 * 100 * 3]).unwrap()).unwrap().len(), 2);
    }
}
