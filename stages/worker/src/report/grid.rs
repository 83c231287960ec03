//! Contact sheets: pictures in rows, with a caption in front of each row.

use opdflow_rewards::Picture;

/// Space around a picture, in pixels.
const GAP: usize = 2;

/// Pictures of equal size in rows, each enlarged `scale` times without smoothing. Rows may differ in length.
#[must_use]
pub fn sheet(rows: &[Vec<Picture>], scale: usize) -> Option<Picture> {
    let first = rows.iter().flatten().next()?;
    let (scale, columns) = (scale.max(1), rows.iter().map(Vec::len).max()?);
    let (cell_w, cell_h) = (first.width * scale + GAP, first.height * scale + GAP);
    let (width, height) = (columns * cell_w + GAP, rows.len() * cell_h + GAP);
    let mut rgb = vec![255_u8; width * height * 3];
    for (r, row) in rows.iter().enumerate() {
        for (c, picture) in row.iter().enumerate() {
            for y in 0..(picture.height * scale).min(cell_h - GAP) {
                for x in 0..(picture.width * scale).min(cell_w - GAP) {
                    let at = ((GAP + r * cell_h + y) * width + GAP + c * cell_w + x) * 3;
                    rgb[at..at + 3].copy_from_slice(&picture.pixel(x / scale, y / scale));
                }
            }
        }
    }
    Picture::new(width, height, rgb)
}

/// The picture shrunk by the least whole number with which no side is above `most` pixels; each pixel is the mean of
/// those that it stands for. A smaller picture stays as it is.
#[must_use]
pub fn thumbnail(picture: &Picture, most: usize) -> Picture {
    let by = picture.width.max(picture.height).div_ceil(most.max(1)).max(1);
    let (width, height) = ((picture.width / by).max(1), (picture.height / by).max(1));
    let mut rgb = Vec::with_capacity(width * height * 3);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let mut sums = [0_usize; 3];
        for (dy, dx) in (0..by).flat_map(|dy| (0..by).map(move |dx| (dy, dx))) {
            let pixel = picture.pixel(x * by + dx, y * by + dy);
            sums.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += usize::from(v));
        }
        rgb.extend(sums.map(|sum| ((sum + by * by / 2) / (by * by)) as u8));
    }
    Picture::new(width, height, rgb).unwrap_or_else(|| picture.clone())
}

/// Pictures in rows of `count`, a prompt each; single pictures in rows about as many as they are long.
#[must_use]
pub fn rows(pictures: Vec<Picture>, count: usize) -> Vec<Vec<Picture>> {
    let width = if count > 1 { count } else { (pictures.len() as f64).sqrt().ceil() as usize };
    pictures.chunks(width.max(1)).map(<[Picture]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_is_in_its_place() {
        let dot = |v: u8| Picture::new(1, 1, vec![v; 3]).unwrap();
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
        let picture = Picture::new(4, 2, rgb).unwrap();
        let small = thumbnail(&picture, 2);
        assert_eq!((small.width, small.height), (2, 1));
        assert_eq!([small.pixel(0, 0)[0], small.pixel(1, 0)[0]], [25, 45]);
        assert_eq!(thumbnail(&picture, 4), picture);
        assert_eq!(rows(vec![picture.clone(); 5], 1).iter().map(Vec::len).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(rows(vec![picture; 6], 3).len(), 2);
    }
}
