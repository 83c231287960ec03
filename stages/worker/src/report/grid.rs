//! Contact sheets: images in rows, with a caption in front of each row.

use opdflow_rewards::Image;

/// Space around an image, in pixels.
const GAP: usize = 2;

/// Images of equal size in rows, each enlarged `scale` times without smoothing. Rows may differ in length.
#[must_use]
pub fn sheet(rows: &[Vec<Image>], scale: usize) -> Option<Image> {
    let first = rows.iter().flatten().next()?;
    let (scale, columns) = (scale.max(1), rows.iter().map(Vec::len).max()?);
    let (cell_w, cell_h) = (first.width * scale + GAP, first.height * scale + GAP);
    let (width, height) = (columns * cell_w + GAP, rows.len() * cell_h + GAP);
    let mut rgb = vec![255_u8; width * height * 3];
    for (r, row) in rows.iter().enumerate() {
        for (c, image) in row.iter().enumerate() {
            for y in 0..(image.height * scale).min(cell_h - GAP) {
                for x in 0..(image.width * scale).min(cell_w - GAP) {
                    let at = ((GAP + r * cell_h + y) * width + GAP + c * cell_w + x) * 3;
                    rgb[at..at + 3].copy_from_slice(&image.pixel(x / scale, y / scale));
                }
            }
        }
    }
    Image::new(width, height, rgb)
}

/// The image shrunk by the least whole number with which no side is above `most` pixels; each pixel is the mean of
/// those that it stands for. A smaller image stays as it is.
#[must_use]
pub fn thumbnail(image: &Image, most: usize) -> Image {
    let by = image.width.max(image.height).div_ceil(most.max(1)).max(1);
    let (width, height) = ((image.width / by).max(1), (image.height / by).max(1));
    let mut rgb = Vec::with_capacity(width * height * 3);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let mut sums = [0_usize; 3];
        for (dy, dx) in (0..by).flat_map(|dy| (0..by).map(move |dx| (dy, dx))) {
            let pixel = image.pixel(x * by + dx, y * by + dy);
            sums.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += usize::from(v));
        }
        rgb.extend(sums.map(|sum| ((sum + by * by / 2) / (by * by)) as u8));
    }
    Image::new(width, height, rgb).unwrap_or_else(|| image.clone())
}

/// Images in rows of `count`, a prompt each; single images in rows about as many as they are long.
#[must_use]
pub fn rows(images: Vec<Image>, count: usize) -> Vec<Vec<Image>> {
    let width = if count > 1 { count } else { (images.len() as f64).sqrt().ceil() as usize };
    images.chunks(width.max(1)).map(<[Image]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_in_its_place() {
        let dot = |v: u8| Image::new(1, 1, vec![v; 3]).unwrap();
        let sheet = sheet(&[vec![dot(1), dot(2)], vec![dot(3)]], 3).unwrap();
        assert_eq!((sheet.width, sheet.height), (2 * 5 + 2, 2 * 5 + 2));
        assert_eq!(sheet.pixel(2, 2)[0], 1);
        assert_eq!(sheet.pixel(7, 4)[0], 2);
        assert_eq!(sheet.pixel(4, 9)[0], 3);
        assert_eq!(sheet.pixel(7, 7)[0], 255);
    }

    #[test]
    fn thumbnails_are_means() {
        let rgb: Vec<u8> = (0..4 * 2).flat_map(|i| [i * 10; 3]).collect();
        let image = Image::new(4, 2, rgb).unwrap();
        let small = thumbnail(&image, 2);
        assert_eq!((small.width, small.height), (2, 1));
        assert_eq!([small.pixel(0, 0)[0], small.pixel(1, 0)[0]], [25, 45]);
        assert_eq!(thumbnail(&image, 4), image);
        assert_eq!(rows(vec![image.clone(); 5], 1).iter().map(Vec::len).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(rows(vec![image; 6], 3).len(), 2);
    }
}
