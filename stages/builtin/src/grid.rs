//! Contact sheets: pictures in rows, with a caption in front of each row.

use opdflow_world::Picture;

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
}
