//! `embed` at work: prompts through the text encoders, once for all stages that make images of them.

use crate::artefacts::embeddings::Writer;
use crate::runtime::pipeline;
use crate::runtime::ranks::{joined, parted};
use crate::runtime::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::StageContext;
use opdflow_kinds::prompt::record;
use opdflow_kinds::stages::embed::Params;
use opdflow_models::condition::Condition;
use opdflow_models::families;
use opdflow_models::family::Role;
use opdflow_models::network::Options;
use std::collections::BTreeSet;
use tch::Tensor;

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
    let ranks = joined(context, device)?;
    let mut done = 1;
    // As many prompts at a time as there are processes, one in each.
    for some in prompts[1..].chunks(ranks.world()) {
        context.go_on(0)?;
        // Where there is none for this one, it has a row to send all the same, which nobody takes.
        let prompt = some.get(ranks.rank()).map_or("", String::as_str);
        let row = text.embed(&[prompt], length)?;
        pipeline::whole_rows(&row, &[prompt])?;
        let sent = |t: &Tensor| -> Result<Tensor> { ranks.gather_rows(t, ranks.world(), 1).map_err(parted) };
        let all = Condition::new(row.tensors().map(|(n, t)| Ok((n, sent(t)?))).collect::<Result<Vec<_>>>()?)?;
        for at in 0..some.len() {
            writer.push(&all.narrow(at as i64, 1))?;
        }
        done += some.len() as u64;
        context.progress(done, total, "prompts");
    }
    writer.finish()
}
