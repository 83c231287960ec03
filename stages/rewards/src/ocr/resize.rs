//! Resizing as the models were trained with.

use crate::Picture;

/// Bilinear without smoothing, pixel centres aligned, rounded to 8 bits: the plain `resize` of OpenCV.
pub(super) fn bilinear(picture: &Picture, width: usize, height: usize) -> Picture {
    if (picture.width, picture.height) == (width, height) {
        return picture.clone();
    }
    let taps = |n: usize, from: usize| -> Vec<(usize, usize, f32)> {
        (0..n)
            .map(|i| {
                let at = ((i as f32 + 0.5) * from as f32 / n as f32 - 0.5).clamp(0.0, (from - 1) as f32);
                let low = at as usize;
                (low, (low + 1).min(from - 1), at - low as f32)
            })
            .collect()
    };
    let (columns, rows) = (taps(width, picture.width), taps(height, picture.height));
    let mut rgb = Vec::with_capacity(width * height * 3);
    for &(y0, y1, fy) in &rows {
        for &(x0, x1, fx) in &columns {
            for c in 0..3 {
                let at = |x: usize, y: usize| f32::from(picture.rgb[(y * picture.width + x) * 3 + c]);
                let upper = at(x0, y0) + (at(x1, y0) - at(x0, y0)) * fx;
                let lower = at(x0, y1) + (at(x1, y1) - at(x0, y1)) * fx;
                rgb.push((upper + (lower - upper) * fy).round() as u8);
            }
        }
    }
    Picture { width, height, rgb }
}

/// Appends a picture to a batch as planes of blue, green and red in -1..1, padded with 0 on the right to `width`.
pub(super) fn push_planes(picture: &Picture, width: usize, batch: &mut Vec<f32>) {
    for c in [2, 1, 0] {
        for row in picture.rgb.chunks_exact(picture.width * 3) {
            batch.extend(row.chunks_exact(3).map(|p| f32::from(p[c]) / 127.5 - 1.0));
            batch.resize(batch.len() + width - picture.width, 0.0);
        }
    }
}
