//! An image as the rest of the program sees it.

use serde::{Deserialize, Serialize};

/// An sRGB image of 8 bits a channel, rows from top to bottom, `rgb[(y * width + x) * 3 + channel]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Pixels along a row.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
    /// `height * width * 3` bytes.
    pub rgb: Vec<u8>,
}

impl Image {
    /// An image from its bytes; `None` when their number is not `width * height * 3`.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Option<Image> {
        let wanted = width.checked_mul(height)?.checked_mul(3)?;
        (rgb.len() == wanted).then_some(Image { width, height, rgb })
    }

    /// Whether the number of bytes fits the size. Images made by [`Image::new`] always do.
    pub fn is_whole(&self) -> bool {
        self.width.checked_mul(self.height).and_then(|n| n.checked_mul(3)) == Some(self.rgb.len())
    }

    /// The three channels at (`x`, `y`); black outside the image.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        match self.rgb.get(at..at + 3) {
            Some(p) if x < self.width => [p[0], p[1], p[2]],
            _ => [0; 3],
        }
    }
}
