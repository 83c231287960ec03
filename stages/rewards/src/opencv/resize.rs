//! OpenCV's bilinear resizing of 8-bit images, to the bit: `cv::resize` with `INTER_LINEAR`, which mmdetection and
//! RapidOCR use.
//!
//! It takes the two nearest pixels on each axis however much the image shrinks, with weights of 11 bits.

use crate::Image;

/// One as a weight.
const ONE: f32 = 2048.0;

/// Where a row or column comes from: two pixels and their weights.
struct Tap {
    from: [usize; 2],
    weight: [i32; 2],
}

/// The image at another size, neither side 0.
pub fn linear(image: &Image, width: usize, height: usize) -> Image {
    if (image.width, image.height) == (width, height) {
        return image.clone();
    }
    if (image.width, image.height) == (2 * width, 2 * height) {
        return halves(image);
    }
    let (across, down) = (taps(image.width, width, true), taps(image.height, height, false));
    let rows: Vec<Vec<i32>> = (0..image.height).map(|y| row(image, y, &across)).collect();
    let mut rgb = Vec::with_capacity(3 * width * height);
    for Tap { from: [a, b], weight: [v, w] } in down {
        let sum = |(a, b): (&i32, &i32)| ((((v * (a >> 4)) >> 16) + ((w * (b >> 4)) >> 16) + 2) >> 2).clamp(0, 255);
        rgb.extend(rows[a].iter().zip(&rows[b]).map(|pair| sum(pair) as u8));
    }
    Image { width, height, rgb }
}

/// A row at its new width, in 2048ths.
fn row(image: &Image, y: usize, across: &[Tap]) -> Vec<i32> {
    let line = &image.rgb[3 * y * image.width..];
    let value = |tap: &Tap, c: usize| (0..2).map(|i| tap.weight[i] * i32::from(line[3 * tap.from[i] + c])).sum();
    across.iter().flat_map(|tap| (0..3).map(move |c| value(tap, c))).collect()
}

/// The taps that make `to` pixels of `from`. Columns beyond the edge take the edge's pixel alone; rows take it with
/// both weights, whose rounding may differ from one.
fn taps(from: usize, to: usize, columns: bool) -> Vec<Tap> {
    let (scale, last) = (1.0 / (to as f64 / from as f64), from as i64 - 1);
    let tap = |i: usize| {
        let at = ((i as f64 + 0.5) * scale - 0.5) as f32;
        let (mut low, mut share) = (at.floor() as i64, at - at.floor());
        if columns && !(0..last).contains(&low) {
            (low, share) = (low.clamp(0, last), 0.0);
        }
        let weight = [1.0 - share, share].map(|w| (w * ONE).round_ties_even() as i32);
        Tap { from: [low, low + 1].map(|p| p.clamp(0, last) as usize), weight }
    };
    (0..to).map(tap).collect()
}

/// An image at exactly half its size: means of four pixels, as OpenCV then has it.
fn halves(image: &Image) -> Image {
    let (width, height) = (image.width / 2, image.height / 2);
    let mut rgb = Vec::with_capacity(3 * width * height);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (2 * y, 2 * x))) {
        let four = [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)].map(|(x, y)| image.pixel(x, y));
        rgb.extend((0..3).map(|c| ((four.iter().map(|p| u16::from(p[c])).sum::<u16>() + 2) >> 2) as u8));
    }
    Image { width, height, rgb }
}
