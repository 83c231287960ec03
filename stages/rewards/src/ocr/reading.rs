//! How text is found and read: the numbers of the steps between the networks, and published sets of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A published set of numbers, and the networks that it is for. `scripts/setup.sh` fetches those of `ppocr_v4_ch` alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// RapidOCR 1.4.4 with `ch_PP-OCRv4_det` and `ch_PP-OCRv4_rec`: what the reward `ocr` is where no reader is connected.
    #[default]
    PpocrV4Ch,
    /// PaddleOCR 2.9.1 with `lang="en"`, the judge of Flow-GRPO and DiffusionNFT: `en_PP-OCRv3_det` and `en_PP-OCRv4_rec`, whose
    /// characters are those of `en_dict.txt`. Images are handed to it as RGB, which it takes as they come.
    PaddleocrEn,
    /// PaddleOCR 3.1 (PaddleX's pipeline `OCR`) with `PP-OCRv5_server_det` and `PP-OCRv5_server_rec`, or the mobile ones.
    PpocrV5,
}

/// How levels become the finder's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// -1 to 1.
    Half,
    /// By ImageNet's means and standard deviations, 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225, in the order of the planes.
    Imagenet,
}

/// The order in which the networks see the planes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// Blue, green, red, as OpenCV reads files.
    Bgr,
    /// Red, green, blue.
    Rgb,
}

/// The size at which the finder sees an image. Each side then goes to the nearest multiple of 32, at least 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resize {
    /// Its own, between 30 and 2000 pixels, with black above and below one that is wider than eight times its height (RapidOCR 1.4.4).
    Rapidocr {},
    /// Its own, or smaller, so that the longer side is at most this.
    Longest {
        /// Pixels; PaddleOCR 2.9.1: 960.
        #[schemars(range(min = 32, max = 8192))]
        pixels: usize,
    },
    /// Its own, or larger, so that the shorter side is at least this; at most 4000 (PaddleOCR 3).
    Shortest {
        /// Pixels; PaddleOCR 3.1: 64.
        #[schemars(range(min = 32, max = 4000))]
        pixels: usize,
    },
}

/// A preset with what is otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReaderConfig {
    /// Where the numbers come from that are not said.
    pub preset: Preset,
    /// Least mean probability of a box.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub box_threshold: Option<f64>,
    /// How far a box grows, as a multiple of its area over its perimeter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub unclip_ratio: Option<f64>,
    /// Least mean probability of the characters of a line that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_score: Option<f64>,
    /// Whether regions grow by a pixel to the right and below before their boxes are drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dilation: Option<bool>,
    /// How levels become the finder's numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalization: Option<Normalization>,
    /// The order of the planes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Channels>,
    /// The size at which the finder sees an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
}

/// All numbers of the steps between the networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// See [`ReaderConfig::box_threshold`].
    pub box_threshold: f64,
    /// See [`ReaderConfig::unclip_ratio`].
    pub unclip_ratio: f64,
    /// See [`ReaderConfig::drop_score`].
    pub drop_score: f64,
    /// See [`ReaderConfig::dilation`].
    pub dilation: bool,
    /// See [`Normalization`].
    pub normalization: Normalization,
    /// See [`Channels`].
    pub channels: Channels,
    /// See [`Resize`].
    pub resize: Resize,
}

impl Preset {
    /// Its numbers.
    #[must_use]
    pub const fn reading(self) -> Reading {
        match self {
            Self::PpocrV4Ch => Reading {
                box_threshold: 0.5,
                unclip_ratio: 1.6,
                drop_score: 0.5,
                dilation: true,
                normalization: Normalization::Half,
                channels: Channels::Bgr,
                resize: Resize::Rapidocr {},
            },
            Self::PaddleocrEn => Reading {
                box_threshold: 0.6,
                unclip_ratio: 1.5,
                drop_score: 0.5,
                dilation: false,
                normalization: Normalization::Imagenet,
                channels: Channels::Rgb,
                resize: Resize::Longest { pixels: 960 },
            },
            Self::PpocrV5 => Reading {
                box_threshold: 0.6,
                unclip_ratio: 1.5,
                drop_score: 0.0,
                dilation: false,
                normalization: Normalization::Imagenet,
                channels: Channels::Bgr,
                resize: Resize::Shortest { pixels: 64 },
            },
        }
    }
}

impl ReaderConfig {
    /// The preset's numbers, with those that are said in their place.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let own = self.preset.reading();
        Reading {
            box_threshold: self.box_threshold.unwrap_or(own.box_threshold),
            unclip_ratio: self.unclip_ratio.unwrap_or(own.unclip_ratio),
            drop_score: self.drop_score.unwrap_or(own.drop_score),
            dilation: self.dilation.unwrap_or(own.dilation),
            normalization: self.normalization.unwrap_or(own.normalization),
            channels: self.channels.unwrap_or(own.channels),
            resize: self.resize.unwrap_or(own.resize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `paddleocr/tools/infer/utility.py` of 2.9.1 and `paddlex/configs/pipelines/OCR.yaml` of 3.1.0.
    #[test]
    fn presets_have_the_published_numbers() {
        let of = |preset: Preset| {
            let r = preset.reading();
            (r.box_threshold, r.unclip_ratio, r.drop_score, r.dilation)
        };
        assert_eq!(of(Preset::PaddleocrEn), (0.6, 1.5, 0.5, false));
        assert_eq!(of(Preset::PpocrV5), (0.6, 1.5, 0.0, false));
        assert_eq!(of(Preset::PpocrV4Ch), (0.5, 1.6, 0.5, true));
    }

    #[test]
    fn what_is_said_is_in_the_preset_s_place() {
        let config = ReaderConfig { preset: Preset::PaddleocrEn, drop_score: Some(0.2), ..ReaderConfig::default() };
        assert_eq!(config.reading(), Reading { drop_score: 0.2, ..Preset::PaddleocrEn.reading() });
    }
}
