//! Images as the networks take them: resized, cut to a square, and normalised, as each published score does it.

mod processor;
pub mod resample;

use anyhow::{Result, ensure};
use opdflow_rewards::Image;
use std::borrow::Borrow;
use tch::{Kind, Tensor};

/// The mean of each channel of CLIP's images, on 0..1.
pub const MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Their standard deviation.
pub const STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// How an image is brought to a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// transformers' `CLIPImageProcessor`: the shorter side by Pillow's bicubic filter on 8 bits, then the middle; a
    /// remainder that is odd loses its extra pixel at the far side.
    Processor,
    /// torchvision's `Resize` and `CenterCrop` on Pillow's images, as in CLIP's own code, open_clip and ImageReward:
    /// the same, but the half of an odd remainder is rounded to even.
    Pillow,
    /// torchvision's `Resize` and `CenterCrop` on tensors of 0..1: bilinear with antialiasing, no rounding to 8 bits.
    Tensor,
    /// The whole image, the longer side by torch's bicubic filter with antialiasing on tensors of 0..1, and black
    /// beside it: HPSv2's `ResizeMaxSize`.
    Padded,
}

/// From an 8-bit image to a network's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// How it comes to a square.
    pub fit: Fit,
    /// What the shorter side is resized to (with [`Fit::Padded`] the longer), in pixels.
    pub resize: usize,
    /// The square's side, at most `resize`.
    pub side: usize,
    /// What is taken off each channel of 0..1.
    pub mean: [f64; 3],
    /// What it is divided by then.
    pub std: [f64; 3],
}

impl Pixels {
    /// A square of `side` pixels with CLIP's mean and deviation.
    #[must_use]
    pub fn clip(fit: Fit, side: usize) -> Pixels {
        Pixels { fit, resize: side, side, mean: MEAN, std: STD }
    }

    /// `[3, side, side]` (f32, on the CPU) of one image.
    ///
    /// # Errors
    /// The image is empty or not whole.
    pub fn tensor(&self, image: &Image) -> Result<Tensor> {
        let Image { width: w, height: h, rgb } = image;
        ensure!(!rgb.is_empty() && image.is_whole(), "an image of {w}x{h} with {} bytes is malformed", rgb.len());
        let (side, resize) = (self.side, self.resize);
        let x = match self.fit {
            Fit::Padded => padded(&unit(image), side),
            Fit::Tensor => {
                let (w, h) = shorter(*w, *h, resize);
                let size = [h as i64, w as i64];
                let x = unit(image).unsqueeze(0).internal_upsample_bilinear2d_aa(size, false, None, None);
                middle(&x.squeeze_dim(0), side, half_to_even)
            }
            Fit::Processor | Fit::Pillow => {
                let (w, h) = shorter(*w, *h, resize);
                let start = if self.fit == Fit::Pillow { half_to_even } else { |odd| odd / 2 };
                middle(&unit(&resample::bicubic(image, w, h)), side, start)
            }
        };
        let channel = |v: &[f64; 3]| Tensor::from_slice(v).to_kind(Kind::Float).view([3, 1, 1]);
        Ok((x - channel(&self.mean)) / channel(&self.std))
    }

    /// `[B, 3, side, side]` (f32, on the CPU) of at least one image, each as if it were alone.
    ///
    /// # Errors
    /// As for [`Pixels::tensor`].
    pub fn batch<P: Borrow<Image>>(&self, images: &[P]) -> Result<Tensor> {
        ensure!(!images.is_empty(), "no images");
        let each = images.iter().map(|p| self.tensor(p.borrow())).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&each, 0))
    }
}

/// `[3, H, W]` (f32) of 0..1.
fn unit(image: &Image) -> Tensor {
    let bytes = Tensor::from_slice(&image.rgb).view([image.height as i64, image.width as i64, 3]);
    bytes.permute([2, 0, 1]).to_kind(Kind::Float) / 255.0
}

/// Width and height when the shorter side becomes `side`; the longer is cut to whole pixels.
fn shorter(width: usize, height: usize, side: usize) -> (usize, usize) {
    let longer = side * width.max(height) / width.min(height);
    if width <= height { (side, longer) } else { (longer, side) }
}

/// The middle `[3, side, side]` of `[3, H, W]`; `start` gives where it begins of what is left over.
fn middle(x: &Tensor, side: usize, start: fn(i64) -> i64) -> Tensor {
    let side = side as i64;
    let cut = |x: Tensor, dim: i64| {
        let rest = x.size()[dim as usize] - side;
        x.narrow(dim, start(rest), side)
    };
    cut(cut(x.shallow_clone(), 1), 2)
}

/// Half of `rest` as Python rounds it.
fn half_to_even(rest: i64) -> i64 {
    (rest as f64 / 2.0).round_ties_even() as i64
}

/// `[3, H, W]` to `[3, side, side]`: the longer side resized to `side`, black on both sides of the shorter.
fn padded(x: &Tensor, side: usize) -> Tensor {
    let (side, size) = (side as i64, x.size());
    let scale = side as f64 / size[1].max(size[2]) as f64;
    let [h, w] = [size[1], size[2]].map(|d| ((d as f64 * scale).round_ties_even() as i64).max(1));
    let x = if scale == 1.0 {
        x.shallow_clone()
    } else {
        x.unsqueeze(0).internal_upsample_bicubic2d_aa([h, w], false, None, None).squeeze_dim(0)
    };
    let (left, top) = ((side - w) / 2, (side - h) / 2);
    x.constant_pad_nd([left, side - w - left, top, side - h - top])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_by_hand() {
        assert_eq!(shorter(100, 51, 30), (58, 30));
        assert_eq!(shorter(51, 100, 30), (30, 58));
        assert_eq!(shorter(64, 64, 224), (224, 224));
        assert_eq!([1, 3, 5, 7].map(half_to_even), [0, 2, 2, 4]);
    }

    #[test]
    fn every_fit_gives_a_square_of_any_image() {
        for (w, h) in [(1, 1), (1, 40), (33, 8), (16, 16)] {
            let image = Image::new(w, h, (0..w * h * 3).map(|i| (i * 7 % 256) as u8).collect()).unwrap();
            for fit in [Fit::Processor, Fit::Pillow, Fit::Tensor, Fit::Padded] {
                let x = Pixels::clip(fit, 16).tensor(&image).unwrap();
                assert_eq!((x.size(), x.kind()), (vec![3, 16, 16], Kind::Float), "{fit:?} of {w}x{h}");
            }
        }
        let broken = Image { width: 2, height: 2, rgb: vec![0; 5] };
        assert!(Pixels::clip(Fit::Pillow, 16).tensor(&broken).unwrap_err().to_string().contains("2x2 with 5 bytes"));
        assert!(Pixels::clip(Fit::Pillow, 16).batch::<Image>(&[]).is_err());
    }
}
