//! A fake training of an adapter and a fake evaluation: the outputs of the real ones, with the same names and types, of no model.

use crate::{Description, Input, Output, Stage, StageContext};
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A PNG of two pixels, red and blue.
const IMAGE: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x01\x08\x02\0\0\0{@\xe8\xdd\0\0\0\x0fIDATx\x9cc\xf8\xcf\xc0\xc0\xc0\xf0\x1f\0\x07\0\x01\xff~\x08\xb1\xd0\0\0\0\0IEND\xaeB`\x82";

/// Scores and images of a model, as it is told.
pub struct FakeJudge;

/// Parameters of [`FakeJudge`].
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeParams {
    /// The score.
    score: f64,
    /// The prompts.
    prompts: Vec<String>,
}

impl Stage for FakeJudge {
    type Params = JudgeParams;
    fn describe(&self) -> Description {
        Description {
            kind: "fake_judge",
            semantics: 1,
            about: "Scores a model with what it is told.",
            inputs: const { &[Input::optional("lora", &["model", "lora"], "what is judged")] },
            outputs: const {
                &[
                    Output::new("scores", "scores", "means").result(),
                    Output::new("samples", "samples", "a JSON line per image").result(),
                    Output::new("images", "images", "an image per prompt").result().folder(),
                ]
            },
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }
}

pub(super) fn judge(params: JudgeParams, context: &mut StageContext) -> Result<()> {
    let folder = context.output("images").join("words");
    std::fs::create_dir_all(&folder)?;
    let mut samples = String::new();
    for (i, prompt) in params.prompts.iter().enumerate() {
        std::fs::write(folder.join(format!("{i:03}.png")), IMAGE)?;
        std::fs::write(folder.join(format!("{i:03}.txt")), format!("{prompt}\n"))?;
        samples += &format!(
            "{}\n",
            json!({"set": "words", "text": prompt, "scores": {"ocr": params.score, "ocr.exact": 1.0}})
        );
    }
    let mean = |mean: f64| json!({"mean": mean, "error": 0.125, "n": params.prompts.len()});
    let scores = json!({"sets": {"words": {"ocr": mean(params.score), "ocr.exact": mean(1.0)}}});
    std::fs::write(context.output("scores"), scores.to_string())?;
    Ok(std::fs::write(context.output("samples"), samples)?)
}

/// An adapter of no model.
pub struct FakeLora;

/// Parameters of [`FakeLora`].
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraParams {
    /// What it is told to like, by name.
    reward: std::collections::BTreeMap<String, f64>,
    /// Any text.
    note: String,
}

impl Stage for FakeLora {
    type Params = LoraParams;
    fn describe(&self) -> Description {
        Description {
            kind: "fake_lora",
            semantics: 1,
            about: "Leaves the files of an adapter.",
            inputs: const { &[Input::optional("base", &["value"], "what it is for")] },
            outputs: const { &[Output::new("lora", "lora", "the adapter").result().folder()] },
            outside_key: &[],
            seeded: true,
            numeric: false,
        }
    }
}

pub(super) fn adapter(params: LoraParams, context: &mut StageContext) -> Result<()> {
    context.metric(1, "reward", params.reward.values().sum())?;
    let base = context.maybe_input("base")?.map_or(Ok(String::new()), std::fs::read_to_string)?;
    let folder = context.output("lora");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("adapter_config.json"), "{}")?;
    Ok(std::fs::write(folder.join("adapter_model.safetensors"), format!("{base} {}", context.job().seed))?)
}
