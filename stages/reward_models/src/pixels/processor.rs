//! `preprocessor_config.json` of transformers' `CLIPImageProcessor`.

use super::{Fit, MEAN, Pixels, STD};
use anyhow::{Context, Result, ensure};
use opdflow_models::config::{read_json, supported};
use serde::Deserialize;
use std::path::Path;

/// Pillow's number of the bicubic filter.
const BICUBIC: i64 = 3;

/// The file, with the class's defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Processor {
    do_resize: bool,
    size: Size,
    resample: i64,
    do_center_crop: bool,
    crop_size: Size,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f64; 3],
    image_std: [f64; 3],
}

impl Default for Processor {
    fn default() -> Processor {
        Processor {
            do_resize: true,
            size: Size::Number(224),
            resample: BICUBIC,
            do_center_crop: true,
            crop_size: Size::Number(224),
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: MEAN,
            image_std: STD,
        }
    }
}

/// A size as it was written over the years.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Number(usize),
    Shortest { shortest_edge: usize },
    Both { height: usize, width: usize },
}

impl Size {
    /// As the shorter side of a resized image.
    fn shorter(self) -> Option<usize> {
        match self {
            Size::Number(n) | Size::Shortest { shortest_edge: n } => Some(n),
            Size::Both { .. } => None,
        }
    }

    /// As the side of a square.
    fn square(self) -> Option<usize> {
        match self {
            Size::Number(n) => Some(n),
            Size::Both { height, width } => (height == width).then_some(height),
            Size::Shortest { .. } => None,
        }
    }
}

impl Pixels {
    /// As `preprocessor_config.json` of a folder says (transformers' `CLIPImageProcessor`).
    ///
    /// # Errors
    /// The file is not there, is malformed, or asks for what is not implemented.
    pub fn from_folder(folder: &Path) -> Result<Pixels> {
        read(&folder.join("preprocessor_config.json"))
    }
}

fn read(path: &Path) -> Result<Pixels> {
    let p: Processor = read_json(path)?;
    let what = path.display().to_string();
    for (key, on) in [
        ("do_resize", p.do_resize),
        ("do_center_crop", p.do_center_crop),
        ("do_rescale", p.do_rescale),
        ("do_normalize", p.do_normalize),
    ] {
        supported(&what, key, on, on, "true")?;
    }
    supported(&what, "resample", p.resample, p.resample == BICUBIC, "3 (bicubic)")?;
    let factor = p.rescale_factor;
    supported(&what, "rescale_factor", factor, (factor * 255.0 - 1.0).abs() < 1e-6, "1/255")?;
    let resize = p.size.shorter().with_context(|| format!("{what}: `size` must be a number or a `shortest_edge`"))?;
    let side = p.crop_size.square().with_context(|| format!("{what}: `crop_size` must be a number or a square"))?;
    ensure!(
        0 < side && side <= resize,
        "{what}: `crop_size` is {side}, `size` {resize}: the crop must fit and not be 0"
    );
    let deviations = p.image_std.iter().all(|s| *s > 0.0);
    supported(&what, "image_std", format!("{:?}", p.image_std), deviations, "numbers above 0")?;
    Ok(Pixels { fit: Fit::Processor, resize, side, mean: p.image_mean, std: p.image_std })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<Pixels> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("preprocessor_config.json");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn sizes_in_both_spellings() {
        let old = with(r#"{"size": 224, "crop_size": 224, "resample": 3, "do_resize": true}"#).unwrap();
        let new = with(
            r#"{"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "rescale_factor": 0.00392156862745098}"#,
        );
        assert_eq!(old, new.unwrap());
        assert_eq!(old, Pixels::clip(Fit::Processor, 224));
        assert_eq!(with(r#"{"size": 256}"#).unwrap().resize, 256);
    }

    #[test]
    fn what_is_not_implemented_is_refused() {
        for (text, says) in [
            (r#"{"do_center_crop": false}"#, "`do_center_crop` is false, supported: true"),
            (r#"{"resample": 2}"#, "`resample` is 2, supported: 3 (bicubic)"),
            (r#"{"size": {"height": 224, "width": 224}}"#, "`size` must be a number or a `shortest_edge`"),
            (r#"{"crop_size": {"height": 224, "width": 220}}"#, "`crop_size` must be a number or a square"),
            (r#"{"size": 100}"#, "`crop_size` is 224, `size` 100"),
            (r#"{"rescale_factor": 1.0}"#, "`rescale_factor` is 1"),
            (r#"{"image_std": [1, 1, 0]}"#, "`image_std` is [1.0, 1.0, 0.0]"),
            (r#"{"image_mean": [1, 1]}"#, "does not hold what is expected"),
            ("[", "does not hold what is expected"),
        ] {
            let error = format!("{:#}", with(text).unwrap_err());
            assert!(error.contains("preprocessor_config.json") && error.contains(says), "{text}: {error}");
        }
    }
}
