//! `ocr` by networks of the user's: any pair of PP-OCR as ONNX files.

use super::reward_model::{ModelPart, RewardModel};

/// The text finder.
pub const DET: ModelPart = ModelPart {
    name: "det",
    about: "the text finder as one ONNX file, such as en_PP-OCRv3_det_infer.onnx",
    weights: true,
    optional: false,
};

/// The text reader.
pub const REC: ModelPart = ModelPart {
    name: "rec",
    about: "the text reader as one ONNX file, such as en_PP-OCRv4_rec_infer.onnx",
    weights: true,
    optional: false,
};

/// The reader's characters.
pub const CHARACTERS: ModelPart = ModelPart {
    name: "characters",
    about: "the reader's characters, one a line, such as en_dict.txt; not needed where the ONNX file has them itself, as RapidOCR's do",
    weights: false,
    optional: true,
};

/// `ocr`.
pub const REWARD_MODEL: RewardModel = RewardModel {
    name: "ocr",
    about: "whether an image has the text that the prompt quotes, by a reader of the user's",
    parts: &[DET, REC, CHARACTERS],
    measures: &["exact"],
    shown: None,
};
