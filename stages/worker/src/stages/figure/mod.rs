//! `figure` at work: scores against training time or operations, as CSV and drawn.

mod drawing;
mod line;
mod plot;
mod raster;
mod svg;

use crate::artefacts::curve::Curve;
use crate::artefacts::timing;
use crate::judging::score::Scores;
use crate::report::seeds;
use crate::runtime::images;
use anyhow::{Context as _, Result};
use line::{Line, Phase};
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::stages::figure::{Against, Params};

/// Draws scores against what training took, and writes what is drawn as CSV.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let base = context.maybe_input("base")?.map(|path| Scores::read(&path)).transpose()?;
    let lines = params
        .lines
        .iter()
        .map(|spec| {
            let before = timing::costs(context, &spec.after)?;
            let parts = spec.curves.iter().map(|name| part(name, context)).collect::<Result<Vec<_>>>()?;
            Ok(Line::of(&spec.title, base.as_ref(), &before, &parts, &params.columns))
        })
        .collect::<Result<Vec<Line>>>()?;
    let unknown = lines.iter().find(|line| line.points.iter().any(|spot| spot.operations.is_none()));
    if let Some(line) = unknown.filter(|_| params.against == Against::Operations) {
        let help = "leave `against: operations` out, or train what it is made of anew";
        let message = format!("a training of `{}` comes from a version that did not count its operations", line.title);
        return Err(Fault::user(message).help(help).into());
    }
    let drawing = plot::plot(&params.title, &params.columns, &lines, params.against);
    let write = |port: &str, text: String| {
        std::fs::write(context.output(port), text).with_context(|| format!("writing `{port}`"))
    };
    write("csv", line::csv(&lines, &params.columns))?;
    write("svg", svg::svg(&drawing))?;
    images::write_png(&context.output("png"), &raster::raster(&drawing))
}

/// The curves that a name stands for, one for each seed, and what they cost.
fn part(name: &str, context: &StageContext) -> Result<Phase> {
    let inputs = seeds::connected(context, "curves", name, "the figure names")?;
    let curves: Vec<Curve> = inputs.iter().map(|input| Curve::read(&context.input(input)?)).collect::<Result<_>>()?;
    let costs = timing::costs(context, &[vec![name.to_owned()]])?;
    Phase::of(name, curves, &costs)
}
