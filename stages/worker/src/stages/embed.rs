//! `embed` at work: prompts through the text encoders, once for all stages that make images of them.

use crate::artefacts::embeddings::Writer;
use crate::runtime::pipeline;
use crate::runtime::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::StageContext;
use opdflow_kinds::prompt::record;
use opdflow_kinds::stages::embed::Params;
use opdflow_models::families;
use opdflow_models::family::Role;
use opdflow_models::network::Options;
use std::collections::BTreeSet;

/// Runs the text encoders over every prompt and over the empty one.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let device = pipeline::device(context)?;
    let base = context.object("base").context("a model on no port")?.digest;
    let needed = families::needed(&[Role::Encoder, Role::Tokenizer]);
    let folder = context.input_parts("base", &needed.iter().map(String::as_str).collect::<Vec<_>>())?;
    let options = Options { device, ..Options::default() };
    let text = families::open(folder, None).and_then(|f| f.text(options)).map_err(|e| unfit(&e))?;
    // The empty prompt first: it is the unguided half of every image.
    let mut prompts = vec![String::new()];
    let mut seen = BTreeSet::from([String::new()]);
    for set in context.names("prompts") {
        let records = record::read(&context.input(&format!("prompts.{set}"))?)?;
        prompts.extend(records.into_iter().map(|r| r.text).filter(|t| seen.insert(t.clone())));
    }
    let length = params.max_sequence_length;
    pipeline::warn_of_cuts(&*text, prompts.iter().map(String::as_str), length, context)?;
    let total = prompts.len() as u64;
    let empty = text.embed(&[""], length)?;
    pipeline::whole_rows(&empty, &prompts[..1])?;
    let mut writer = Writer::new(&context.output("embeddings"), base, &prompts, &empty)?;
    writer.push(&empty)?;
    for (done, prompt) in (1..).zip(&prompts[1..]) {
        context.go_on(0)?;
        let row = text.embed(&[prompt], length)?;
        pipeline::whole_rows(&row, &[prompt])?;
        writer.push(&row)?;
        context.progress(done + 1, total, "prompts");
    }
    writer.finish()
}
