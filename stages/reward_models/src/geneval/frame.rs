//! From an image to the network's input.
//!
//! This follows mmdetection 2.x, with which GenEval runs (the test pipeline of
//! `configs/mask2former/mask2former_r50_lsj_8x2_50e_coco.py`): the image is resized to fit 1333x800 whichever way it
//! lies, its shape kept, by OpenCV's bilinear filter; filled up right and below with grey (128) to multiples of 32; and
//! normalised.
//!
//! `Mask2FormerImageProcessor` of the published folder does otherwise: it forces the image to the size of
//! `preprocessor_config.json` (384x384 in the folders for COCO), changing its shape, by Pillow's filter. Of that file
//! only mean and deviation are read, which are mmdetection's.

use anyhow::{Result, ensure};
use opdflow_models::config::read_json;
use opdflow_rewards::Image;
use opdflow_rewards::opencv::linear;
use serde::Deserialize;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The longer and the shorter side that an image must fit.
pub const LIMITS: [usize; 2] = [1333, 800];
/// Sides of the network's input are multiples of this.
const STEP: usize = 32;
/// What fills an image up.
const GREY: f64 = 128.0;

/// The sizes that an image goes through, width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// As it came.
    pub image: [usize; 2],
    /// Resized.
    pub fitted: [usize; 2],
    /// Filled up.
    pub padded: [usize; 2],
}

impl Frame {
    /// The sizes of an image that must fit `limits`, longer side first.
    pub fn of(width: usize, height: usize, limits: [usize; 2]) -> Frame {
        let (long, short) = (width.max(height) as f64, width.min(height) as f64);
        let scale = (limits[0] as f64 / long).min(limits[1] as f64 / short);
        let fitted = [width, height].map(|side| ((side as f64 * scale + 0.5) as usize).max(1));
        Frame { image: [width, height], fitted, padded: fitted.map(|side| side.next_multiple_of(STEP)) }
    }
}

/// How an image becomes the network's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Mean of each channel on 0..255.
    mean: [f64; 3],
    /// Deviation of each channel on 0..255.
    std: [f64; 3],
    /// What an image must fit.
    limits: [usize; 2],
}

/// `preprocessor_config.json` as far as it is read.
#[derive(Deserialize)]
struct Processor {
    #[serde(default = "yes")]
    do_rescale: bool,
    #[serde(default = "yes")]
    do_normalize: bool,
    #[serde(default = "per_byte")]
    rescale_factor: f64,
    image_mean: [f64; 3],
    image_std: [f64; 3],
}

fn yes() -> bool {
    true
}

fn per_byte() -> f64 {
    1.0 / 255.0
}

impl Input {
    /// By `preprocessor_config.json` of a folder.
    ///
    /// # Errors
    /// When it is missing, or says what is not supported.
    pub fn open(folder: &Path) -> Result<Input> {
        let path = folder.join("preprocessor_config.json");
        let p: Processor = read_json(&path)?;
        let sound = p.do_rescale && p.do_normalize && p.rescale_factor > 0.0 && p.image_std.iter().all(|s| *s > 0.0);
        ensure!(
            sound,
            "{}: `do_rescale` is {}, `do_normalize` {}, `rescale_factor` {}, `image_std` {:?}; \
             supported: true, true, numbers above 0",
            path.display(),
            p.do_rescale,
            p.do_normalize,
            p.rescale_factor,
            p.image_std
        );
        let bytes = |v: [f64; 3]| v.map(|x| x / p.rescale_factor);
        Ok(Input { mean: bytes(p.image_mean), std: bytes(p.image_std), limits: LIMITS })
    }

    /// The same for images that must fit `limits`, longer side first.
    #[must_use]
    pub fn within(self, limits: [usize; 2]) -> Input {
        Input { limits, ..self }
    }

    /// An image as the network takes it, f32 `[1, 3, H, W]`, and its sizes.
    ///
    /// # Errors
    /// When the image is empty or malformed.
    pub fn of(&self, image: &Image, device: Device) -> Result<(Tensor, Frame)> {
        let (w, h) = (image.width, image.height);
        ensure!(w > 0 && h > 0 && image.is_whole(), "an image of {w}x{h} with {} bytes", image.rgb.len());
        let frame = Frame::of(w, h, self.limits);
        let [width, height] = frame.fitted;
        let fitted = linear(image, width, height);
        let [right, down] = [0, 1].map(|i| (frame.padded[i] - frame.fitted[i]) as i64);
        let bytes = Tensor::from_slice(&fitted.rgb).to_device(device).view([height as i64, width as i64, 3]);
        let x = bytes.permute([2, 0, 1]).to_kind(Kind::Float).unsqueeze(0).pad([0, right, 0, down], "constant", GREY);
        let channel = |v: [f64; 3]| Tensor::from_slice(&v.map(|x| x as f32)).to_device(device).view([1, 3, 1, 1]);
        let x = (x - channel(self.mean)) / channel(self.std);
        Ok((x, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_by_hand() {
        let sizes = |w, h| {
            let frame = Frame::of(w, h, LIMITS);
            (frame.fitted, frame.padded)
        };
        assert_eq!(sizes(512, 512), ([800, 800], [800, 800]));
        assert_eq!(sizes(1024, 1024), ([800, 800], [800, 800]));
        assert_eq!(sizes(640, 480), ([1067, 800], [1088, 800]));
        // The longer side decides, and a side is rounded: 1333 / 1000 * 333 = 443.9.
        assert_eq!(sizes(333, 1000), ([444, 1333], [448, 1344]));
        assert_eq!(sizes(5000, 1), ([1333, 1], [1344, 32]));
    }

    #[test]
    fn wrong_preprocessors_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = |json: &str| {
            std::fs::write(folder.path().join("preprocessor_config.json"), json).unwrap();
            Input::open(folder.path())
        };
        let numbers = r#""image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]"#;
        assert_eq!(open(&format!("{{{numbers}}}")).unwrap().mean, [127.5; 3]);
        for (json, says) in [
            (format!(r#"{{{numbers}, "do_normalize": false}}"#), "`do_normalize` false"),
            (format!(r#"{{{numbers}, "rescale_factor": 0}}"#), "`rescale_factor` 0"),
            (r#"{"image_mean": [0.5], "image_std": [1, 1, 1]}"#.to_owned(), "preprocessor_config.json does not hold"),
        ] {
            let error = format!("{:#}", open(&json).unwrap_err());
            assert!(error.contains(says), "{json}: {error}");
        }
        assert!(format!("{:#}", Input::open(&folder.path().join("none")).unwrap_err()).contains("cannot read"));
    }

    #[test]
    fn broken_images_are_refused() {
        let input = Input { mean: [0.0; 3], std: [1.0; 3], limits: LIMITS };
        for broken in [Image { width: 0, height: 4, rgb: vec![] }, Image { width: 2, height: 2, rgb: vec![0; 5] }] {
            assert!(input.of(&broken, Device::Cpu).unwrap_err().to_string().starts_with("an image of"));
        }
    }
}
