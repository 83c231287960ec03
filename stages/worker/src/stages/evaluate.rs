//! `evaluate` at work: scores and images of a model on held-out prompts.

use crate::artefacts::adapter;
use crate::judging::asking::Asking;
use crate::judging::held_out::HeldOut;
use crate::judging::reward_set::RewardSet;
use crate::judging::sample::Sample;
use crate::judging::score;
use crate::judging::score::Scores;
use crate::judging::set::Set;
use crate::runtime::fitting::fitting;
use crate::runtime::images;
use crate::runtime::pipeline::Pipeline;
use anyhow::{Context as _, Result};
use opdflow_api::StageContext;
use opdflow_kinds::stages::evaluate::Params;

/// Makes an image of every prompt of every set, and scores them.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let asking = Asking::new(context, &params.requests);
    fitting(params.micro_batch, context, |micro_batch, context| {
        asking.resumable(context, |context| attempt(Params { micro_batch, ..params.clone() }, &asking, context))
    })
}

/// One attempt, with batches of `params.micro_batch`.
fn attempt(params: Params, asking: &Asking, context: &mut StageContext) -> Result<()> {
    let pipeline =
        Pipeline::open(context, "base", params.micro_batch, params.size, params.precision, params.max_sequence_length)?;
    let reward_set = RewardSet::connected(context, pipeline.canvas, asking)?;
    let held_out = HeldOut::connected(context, pipeline.canvas, asking)?;
    let mut sets = Set::connected(&params.rewards, &reward_set, context)?;
    for set in &mut sets {
        set.repeat(params.images_of(&set.name));
    }
    pipeline.encode_prompts(sets.iter().flat_map(|s| &s.records), context)?;
    let lora = context.object("lora").map(|_| adapter::input(context, "lora", &pipeline)).transpose()?;
    let total: usize = sets.iter().map(|s| s.records.len()).sum();
    let mut scores = Scores::default();
    let mut lines = String::new();
    let mut done = 0;
    let folder = context.output("images");
    for judged in &sets {
        let (set, records) = (&judged.name, &judged.records);
        let by = (&pipeline, lora.as_ref(), &params.sampling);
        let (sampled, mut columns) = judged.judged(by, Some(&held_out), |n| {
            context.progress((done + n) as u64, total as u64, set);
            context.go_on(0)
        })?;
        done += records.len();
        let (tasks, each) = (score::tasks(records), params.images_of(set));
        columns.extend(held_out.diversity(&sampled, each)?);
        for (i, record) in records.iter().enumerate() {
            let sample = Sample {
                image: (each > 1).then_some(i % each),
                scores: columns.iter().map(|(column, values)| (column.clone(), values[i])).collect(),
                set: set.clone(),
                task: tasks[i].map(str::to_owned),
                text: record.text.clone(),
            };
            lines += &sample.line()?;
        }
        std::fs::create_dir_all(folder.join(set)).context("making the folder of images")?;
        for (i, (image, record)) in sampled.iter().zip(records).take(params.keep).enumerate() {
            images::write_png(&folder.join(set).join(format!("{i:03}.png")), image)?;
            std::fs::write(folder.join(set).join(format!("{i:03}.txt")), format!("{}\n", record.text))
                .context("writing a caption")?;
        }
        scores.sets.insert(set.clone(), score::means(&columns, &tasks, each));
        asking.keep(context)?;
    }
    let heads: Vec<String> =
        scores.sets.iter().filter_map(|(n, c)| Some(format!("{n} {:.3}", c.get(n)?.mean))).collect();
    context.progress(total as u64, total as u64, &heads.join("  "));
    scores.write(&context.output("scores"))?;
    std::fs::write(context.output("samples"), lines).context("writing the samples")
}
