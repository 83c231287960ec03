//! `evaluate` at work: scores and pictures of a model on held-out prompts.

use crate::artefacts::adapter;
use crate::judging::jury::Jury;
use crate::judging::score;
use crate::judging::score::Scores;
use crate::judging::set::Set;
use crate::runtime::fitting::fitting;
use crate::runtime::pictures;
use crate::runtime::studio::Studio;
use anyhow::{Context as _, Result};
use opdflow_api::StageContext;
use opdflow_kinds::stages::evaluate::Params;
use std::collections::BTreeMap;

/// Makes an image of every prompt of every set, and scores them.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    fitting(params.micro_batch, context, |micro_batch, context| {
        attempt(Params { micro_batch, ..params.clone() }, context)
    })
}

/// One attempt, with batches of `params.micro_batch`.
fn attempt(params: Params, context: &mut StageContext) -> Result<()> {
    let studio = Studio::open(context, "base", params.micro_batch, params.size, params.precision)?;
    let jury = Jury::connected(context, studio.canvas.device)?;
    let sets = Set::connected(&params.rewards, &jury, context)?;
    studio.recite(sets.iter().flat_map(|s| &s.records), context)?;
    let lora = context.object("lora").map(|_| adapter::input(context, "lora", &studio)).transpose()?;
    let total: usize = sets.iter().map(|s| s.records.len()).sum();
    let mut scores = Scores::default();
    let mut lines = String::new();
    let mut done = 0;
    let folder = context.output("pictures");
    for judged in &sets {
        let (set, records) = (&judged.name, &judged.records);
        let shot = studio.shoot(records, lora.as_ref(), &params.shot, |n| {
            context.progress((done + n) as u64, total as u64, set);
            context.go_on(0)
        })?;
        done += records.len();
        let columns = judged.columns(&shot)?;
        for (i, record) in records.iter().enumerate() {
            let values: BTreeMap<&str, f64> = columns.iter().map(|(c, v)| (c.as_str(), v[i])).collect();
            lines += &(serde_json::json!({"set": set, "text": record.text, "scores": values}).to_string() + "\n");
        }
        std::fs::create_dir_all(folder.join(set)).context("making the folder of pictures")?;
        for (i, (picture, record)) in shot.iter().zip(records).take(params.keep).enumerate() {
            pictures::write_png(&folder.join(set).join(format!("{i:03}.png")), picture)?;
            std::fs::write(folder.join(set).join(format!("{i:03}.txt")), format!("{}\n", record.text))
                .context("writing a caption")?;
        }
        scores.sets.insert(set.clone(), score::means(&columns));
    }
    let heads: Vec<String> =
        scores.sets.iter().filter_map(|(n, c)| Some(format!("{n} {:.3}", c.get(n)?.mean))).collect();
    context.progress(total as u64, total as u64, &heads.join("  "));
    scores.write(&context.output("scores"))?;
    std::fs::write(context.output("samples"), lines).context("writing the samples")
}
