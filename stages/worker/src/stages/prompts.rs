//! `prompts` at work: sets of prompts of the miniature world, or a user's own.

use crate::artefacts::outside;
use anyhow::Result;
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::prompt::record;
use opdflow_kinds::stages::prompts::{Params, SETS, Sets, about, draw, read, records};

/// Draws prompts from the miniature world, or reads the user's files, and splits them.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let sets: Sets = match params.task {
        Some(task) => {
            let there = SETS.into_iter().filter(|set| params.leaves(set)).filter_map(|set| params.of_world(set));
            there.map(|(port, n, split)| Ok((port, params.drawn(task, n, split)?))).collect::<Result<_>>()?
        }
        None => of_files(&params, context)?,
    };
    let mut sets = sets.into_iter().filter(|(port, _)| params.leaves(port));
    sets.try_for_each(|(port, records)| record::write(&context.output(port), &records))
}

fn of_files(params: &Params, context: &StageContext) -> Result<Sets> {
    let mut sets = Sets::new();
    for (port, file) in params.files.each() {
        let Some(file) = file else { continue };
        let path = context.job().folder.join(file);
        let (entries, digest) = read(&path).map_err(Fault::from)?;
        outside::expect(context, &format!("prompts.{port}"), digest, &path)?;
        context.say(about(port, file, &entries));
        sets.push((port, records(entries)));
    }
    let drawn = draw(sets, &params.draw, params.seed);
    match params.short(&drawn) {
        Some(fault) => Err(Fault::user(fault.message).help(fault.help.unwrap_or_default()).into()),
        None => Ok(drawn),
    }
}
