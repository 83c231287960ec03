//! Sizes and values of the networks' inputs.

use std::borrow::Cow;

use crate::Image;
use crate::opencv::linear;

/// Sides that the text finder can take are multiples of this: it halves its input five times.
const MULTIPLE: usize = 32;
/// An image's longer side is brought down to this.
const LONGEST: usize = 2000;
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

/// The size at which the finder sees an image of this one; none for one of less than half a multiple.
pub(super) fn finder_size(width: usize, height: usize) -> Option<[usize; 2]> {
    let size = [width, height].map(multiple);
    (!size.contains(&0)).then_some(size)
}

/// The finder's value of a level, -1 to 1.
pub(super) fn finder_value(level: u8) -> f32 {
    ((f64::from(f32::from(level) * (1.0 / 255.0)) - 0.5) / 0.5) as f32
}

/// The reader's value of a level, -1 to 1; it rounds otherwise.
pub(super) fn reader_value(level: u8) -> f32 {
    (f32::from(level) / 255.0 - 0.5) / 0.5
}

/// An image as planes of blue, green and red, filled up on the right with 0 to `width`.
pub(super) fn planes(image: &Image, width: usize, value: impl Fn(u8) -> f32) -> Vec<f32> {
    let values: Vec<f32> = (0..=u8::MAX).map(value).collect();
    let mut planes = Vec::with_capacity(3 * width * image.height);
    for c in [2, 1, 0] {
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
        assert_eq!(finder_size(80, 512), Some([64, 512]));
        assert_eq!((finder_size(48, 49), finder_size(16, 64)), (Some([64, 64]), None));
    }

    #[test]
    fn planes_are_blue_green_red_and_filled_up() {
        let image = Image::new(1, 2, vec![0, 255, 51, 102, 0, 255]).unwrap();
        let got = planes(&image, 2, reader_value);
        let want = [-0.6, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, -0.2, 0.0];
        assert!(got.iter().zip(want).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{got:?}");
        assert!((finder_value(51) + 0.6).abs() < 1e-6);
    }
}
