//! Sizes and values of the networks' inputs.

use std::borrow::Cow;

use super::reading::{Channels, Normalization, Reading, Resize};
use crate::Image;
use crate::opencv::linear;

/// Sides that the text finder can take are multiples of this: it halves its input five times.
const MULTIPLE: usize = 32;
/// An image's longer side is brought down to this.
const LONGEST: usize = 2000;
/// The longest side that an image is enlarged to, by PaddleOCR 3.
const LARGEST: usize = 4000;
/// An image's shorter side is brought up to this.
const SHORTEST: usize = 30;
/// An image that is wider than this many times its height gets black above and below.
const WIDE: usize = 8;

/// The image as the reference reads it: neither too large nor too small, nor too wide for its height.
///
/// An image whose longer side would outgrow the longest in growing, which the reference lets grow, grows no further.
pub(super) fn prepared(image: &Image) -> Cow<'_, Image> {
    let (width, height) = (image.width, image.height);
    let (long, short) = (width.max(height), width.min(height));
    let scale = if long > LONGEST {
        LONGEST as f64 / long as f64
    } else if short < SHORTEST {
        (SHORTEST as f64 / short as f64).min(LONGEST as f64 / long as f64)
    } else {
        1.0
    };
    let scaled = |side: usize| multiple((side as f64 * scale) as usize).max(MULTIPLE);
    let sized =
        if scale == 1.0 { Cow::Borrowed(image) } else { Cow::Owned(linear(image, scaled(width), scaled(height))) };
    if sized.height <= SHORTEST || sized.width > WIDE * sized.height {
        let tall = (sized.width / WIDE).max(SHORTEST) * 2;
        return Cow::Owned(boxed(&sized, tall.abs_diff(sized.height) / 2));
    }
    sized
}

/// The nearest multiple; of two as near, the even one.
fn multiple(side: usize) -> usize {
    (side as f64 / MULTIPLE as f64).round_ties_even() as usize * MULTIPLE
}

/// The image with black rows above and below.
fn boxed(image: &Image, rows: usize) -> Image {
    let bar = vec![0; rows * image.width * 3];
    let rgb = [&bar[..], &image.rgb, &bar].concat();
    Image { width: image.width, height: image.height + 2 * rows, rgb }
}

/// The size at which the finder sees an image of this one; none for one of less than half a multiple where its size is its own
/// ([`prepared`] came before).
pub(super) fn finder_size(width: usize, height: usize, resize: Resize) -> Option<[usize; 2]> {
    let scaled = |ratio: f64| [width, height].map(|side| multiple((side as f64 * ratio) as usize).max(MULTIPLE));
    match resize {
        Resize::Rapidocr {} => {
            let size = [width, height].map(multiple);
            (!size.contains(&0)).then_some(size)
        }
        Resize::Longest { pixels } => Some(scaled((pixels as f64 / width.max(height).max(1) as f64).min(1.0))),
        Resize::Shortest { pixels } => {
            let ratio = (pixels as f64 / width.min(height).max(1) as f64).max(1.0);
            let mut size = [width, height].map(|side| (side as f64 * ratio) as usize);
            let longest = size[0].max(size[1]);
            if longest > LARGEST {
                size = size.map(|side| (side as f64 * (LARGEST as f64 / longest as f64)) as usize);
            }
            Some(size.map(|side| multiple(side).max(MULTIPLE)))
        }
    }
}

/// The finder's values of all levels, for each plane in the networks' order.
pub(super) fn finder_values(reading: &Reading) -> [Vec<f32>; 3] {
    let by = |mean: f64, std: f64| -> Vec<f32> {
        (0..=u8::MAX).map(|level| ((f64::from(f32::from(level) * (1.0 / 255.0)) - mean) / std) as f32).collect()
    };
    match reading.normalization {
        Normalization::Half => [by(0.5, 0.5), by(0.5, 0.5), by(0.5, 0.5)],
        Normalization::Imagenet => [by(0.485, 0.229), by(0.456, 0.224), by(0.406, 0.225)],
    }
}

/// The reader's values of all levels, for each plane.
pub(super) fn reader_values() -> [Vec<f32>; 3] {
    let values: Vec<f32> = (0..=u8::MAX).map(reader_value).collect();
    [values.clone(), values.clone(), values]
}

/// The reader's value of a level, -1 to 1; it rounds otherwise.
fn reader_value(level: u8) -> f32 {
    (f32::from(level) / 255.0 - 0.5) / 0.5
}

/// An image as planes, each with its values of the levels, filled up on the right with 0 to `width`.
pub(super) fn planes(image: &Image, width: usize, channels: Channels, values: &[Vec<f32>; 3]) -> Vec<f32> {
    let mut planes = Vec::with_capacity(3 * width * image.height);
    let order = match channels {
        Channels::Bgr => [2, 1, 0],
        Channels::Rgb => [0, 1, 2],
    };
    for (c, values) in order.into_iter().zip(values) {
        for row in image.rgb.chunks_exact(image.width * 3) {
            planes.extend(row.chunks_exact(3).map(|p| values[usize::from(p[c])]));
            planes.resize(planes.len() + width - image.width, 0.0);
        }
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Resize = Resize::Rapidocr {};

    fn size(width: usize, height: usize) -> [usize; 2] {
        let image = Image::new(width, height, vec![9; width * height * 3]).unwrap();
        let ready = prepared(&image);
        assert!(ready.is_whole());
        [ready.width, ready.height]
    }

    #[test]
    fn sizes_as_the_reference_has_them() {
        assert_eq!((size(64, 64), size(2000, 500), size(512, 31)), ([64, 64], [2000, 500], [512, 127]));
        // 4000 x 1000 is halved, to multiples: 2000 / 32 = 62.5 goes to 62.
        assert_eq!(size(4000, 1000), [1984, 512]);
        // A shorter side of 20 becomes 30, which goes to 32; one of 30 stays, and gets black round it.
        assert_eq!((size(20, 40), size(30, 40), size(40, 30)), ([32, 64], [30, 40], [40, 60]));
        // Nothing grows beyond bounds.
        assert!(size(1, 1900).into_iter().max().unwrap() <= 2016);
        assert_eq!(size(1, 1), [32, 32]);
        // 80 lies between 64 and 96, which are 2 and 3 times 32.
        assert_eq!(finder_size(80, 512, OWN), Some([64, 512]));
        assert_eq!((finder_size(48, 49, OWN), finder_size(16, 64, OWN)), (Some([64, 64]), None));
    }

    #[test]
    fn planes_are_blue_green_red_and_filled_up() {
        let image = Image::new(1, 2, vec![0, 255, 51, 102, 0, 255]).unwrap();
        let got = planes(&image, 2, Channels::Bgr, &reader_values());
        let want = [-0.6, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, -0.2, 0.0];
        assert!(got.iter().zip(want).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{got:?}");
        let values = |normalization| {
            let preset = crate::ocr::reading::Preset::PaddleocrEn.reading();
            finder_values(&Reading { normalization, ..preset }).map(|plane| plane[51])
        };
        let close = |got: [f32; 3], want: [f32; 3]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close(values(Normalization::Half), [-0.6; 3]));
        // (0.2 - 0.485) / 0.229 and so on.
        let want = [-1.244_541, -1.142_857, -0.915_556];
        assert!(close(values(Normalization::Imagenet), want), "{:?}", values(Normalization::Imagenet));
        let red_first = planes(&image, 1, Channels::Rgb, &reader_values());
        assert!((red_first[0] + 1.0).abs() < 1e-6 && (red_first[2] - 1.0).abs() < 1e-6, "{red_first:?}");
    }

    /// `DetResizeForTest` of PaddleOCR 2.9.1 (`max`, 960) and of 3.1 (`min`, 64, at most 4000).
    #[test]
    fn sizes_as_paddleocr_has_them() {
        let (old, new) = (Resize::Longest { pixels: 960 }, Resize::Shortest { pixels: 64 });
        assert_eq!(finder_size(512, 512, old), Some([512, 512]));
        // 1920 x 1080 is halved: 540 / 32 = 16.875 goes to 17.
        assert_eq!(finder_size(1920, 1080, old), Some([960, 544]));
        assert_eq!(finder_size(10, 900, old), Some([32, 896]));
        // 32 x 48 doubles; 8000 x 100 comes down to 4000 x 50, which is 64 to the nearest multiple.
        assert_eq!(finder_size(32, 48, new), Some([64, 96]));
        assert_eq!(finder_size(8000, 100, new), Some([4000, 64]));
    }
}
