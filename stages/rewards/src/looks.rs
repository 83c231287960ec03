//! Looks: three published rule-based measures of an image, whatever its prompt.

use crate::reward::check;
use crate::{Image, Reward, RewardError, Score, Subject};

/// Hasler and Suesstrunk call an image of 109 "extremely colourful"; a third more earns the full mark.
const COLOURFUL: f64 = 145.0;
/// The largest RMS contrast there is: half black, half white.
const CONTRAST: f64 = 0.5;
/// Mean length of the luminance gradient, per pixel, at which an image counts as all noise.
const ROUGH: f64 = 0.12;

/// The mean of colourfulness, contrast and smoothness, each 0 to 1.
///
/// - `colourfulness`: M(3) = sigma_rgyb + 0.3 mu_rgyb of the opponent channels rg = R - G and yb = (R + G)/2 - B on 0..255
///   (Hasler and Suesstrunk 2003, "Measuring colourfulness in natural images"), divided by 145 and cut off at 1;
/// - `contrast`: standard deviation of luminance on 0..1 (Peli 1990, "Contrast in complex images"), divided by 0.5;
/// - `smoothness`: 1 - TV/0.12, not below 0, with TV the mean over pixels of the gradient's length by forward differences
///   of luminance on 0..1 (total variation, Rudin, Osher and Fatemi 1992).
///
/// Luminance is 0.299 R + 0.587 G + 0.114 B.
#[derive(Debug, Clone, Copy, Default)]
pub struct Looks;

impl Reward for Looks {
    fn name(&self) -> &str {
        "looks"
    }

    fn applies(&self, _: &Subject) -> bool {
        true
    }

    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        check(images, subjects)?;
        let score = |p| {
            let light = luminance(p);
            let colourfulness = (hasler_suesstrunk(p) / COLOURFUL).min(1.0);
            let contrast = moments(light.iter().copied()).1 / CONTRAST;
            let smoothness = (1.0 - variation(&light, p.width) / ROUGH).max(0.0);
            Score::new(
                (colourfulness + contrast + smoothness) / 3.0,
                [("colourfulness", colourfulness), ("contrast", contrast), ("smoothness", smoothness)],
            )
        };
        Ok(images.iter().map(score).collect())
    }
}

/// Hasler and Suesstrunk's M(3): 0 for grey, 33 moderately, 59 quite, 82 highly, 109 extremely colourful.
fn hasler_suesstrunk(image: &Image) -> f64 {
    let channels = || image.rgb.chunks_exact(3).map(|p| [f64::from(p[0]), f64::from(p[1]), f64::from(p[2])]);
    let (rg_mean, rg_dev) = moments(channels().map(|[r, g, _]| r - g));
    let (yb_mean, yb_dev) = moments(channels().map(|[r, g, b]| 0.5 * (r + g) - b));
    rg_dev.hypot(yb_dev) + 0.3 * rg_mean.hypot(yb_mean)
}

/// Luminance of each pixel, 0 to 1.
fn luminance(image: &Image) -> Vec<f64> {
    let weigh = |p: &[u8]| (0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2])) / 255.0;
    image.rgb.chunks_exact(3).map(weigh).collect()
}

/// Mean and standard deviation; zeros for no values.
fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for v in values {
        n += 1.0;
        sum += v;
        squares += v * v;
    }
    if n == 0.0 {
        return (0.0, 0.0);
    }
    let mean = sum / n;
    (mean, (squares / n - mean * mean).max(0.0).sqrt())
}

/// Mean length of the forward-difference gradient over all pixels; the last row and column have no difference.
fn variation(light: &[f64], width: usize) -> f64 {
    let mut total = 0.0;
    for (i, v) in light.iter().enumerate() {
        let right = if (i + 1) % width == 0 { *v } else { light.get(i + 1).copied().unwrap_or(*v) };
        let below = light.get(i + width).copied().unwrap_or(*v);
        total += (right - v).hypot(below - v);
    }
    total / light.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(width: usize, rgb: Vec<u8>) -> Score {
        let height = rgb.len() / 3 / width;
        let image = Image::new(width, height, rgb).unwrap();
        Looks.score(&[image], &[Subject::default()]).unwrap().remove(0)
    }

    #[test]
    fn plain_grey_is_only_smooth() {
        let s = parts(4, vec![90; 48]);
        assert!(s.parts["colourfulness"] < 1e-9 && s.parts["contrast"] < 1e-6);
        assert_eq!(s.parts["smoothness"], 1.0);
    }

    #[test]
    fn black_and_white_halves_by_hand() {
        // Two columns black, two white, two rows: deviation 1/2, one step of 1 in each of the 2 rows of 8 pixels: TV = 1/4.
        let row = [0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255];
        let s = parts(4, [row, row].concat());
        assert!((s.parts["contrast"] - 1.0).abs() < 1e-9);
        assert_eq!(s.parts["smoothness"], 0.0);
        assert!(s.parts["colourfulness"] < 1e-9);
    }

    #[test]
    fn colourfulness_by_hand() {
        // Half red, half blue: rg = 255, 0; yb = 127.5, -255. Deviations 127.5 and 191.25, means 127.5 and -63.75.
        let m = hasler_suesstrunk(&Image::new(2, 1, vec![255, 0, 0, 0, 0, 255]).unwrap());
        assert!((m - (127.5f64.hypot(191.25) + 0.3 * 127.5f64.hypot(63.75))).abs() < 1e-9);
    }
}
