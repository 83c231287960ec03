//! `table` at work: the paper's table of several models, and a grid of their images.

mod budget;
mod differences;
mod form;
mod multiples;
mod published;
mod render;
mod row;

use crate::artefacts::timing::cost;
use crate::judging::sample::Samples;
use crate::judging::score::Scores;
use crate::report::{grid, seeds};
use crate::runtime::images;
use anyhow::{Context as _, Result};
use budget::Budget;
use differences::{Differences, Judged};
use form::Form;
use multiples::Multiples;
use opdflow_api::port::{Member, meant};
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::stages::table::{Params, SAMPLES};
use opdflow_rewards::Image;
use row::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Writes the table of models in every form, and the grid of their images.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let scores = read_scores(&params, context)?;
    let form = fill(&params, &scores, context)?;
    let write = |port: &str, text: String| {
        std::fs::write(context.output(port), text).with_context(|| format!("writing `{port}`"))
    };
    write("markdown", render::markdown(&form))?;
    write("csv", render::csv(&form))?;
    write("latex", render::latex(&form))?;
    write("json", serde_json::to_string_pretty(&form)? + "\n")?;
    let rows = params.rows.iter().map(|r| image_row(context, &r.scores, params.images)).collect::<Result<Vec<_>>>()?;
    if let Some(sheet) = grid::sheet(&rows, params.scale) {
        images::write_png(&context.output("png"), &sheet)?;
    }
    Ok(())
}

/// Scores of each name that the table uses, one for each seed.
fn read_scores(params: &Params, context: &StageContext) -> Result<BTreeMap<String, Judged>> {
    let mentioned = params
        .rows
        .iter()
        .map(|r| &r.scores)
        .chain(params.kept.iter().flat_map(|k| [&k.base, &k.student].into_iter().chain(k.teachers.values())));
    let (mut found, members) = (BTreeMap::new(), context.members("scores"));
    for name in mentioned.collect::<BTreeSet<_>>() {
        let inputs = seeds::connected(context, "scores", name, "the table names")?;
        let scores = inputs.iter().map(|i| Scores::read(&context.input(i)?)).collect::<Result<Vec<_>>>()?;
        let samples = samples_of(context, name, &scores)?;
        found.insert(name.clone(), Judged { scores, seeds: seeds_of(&members, name), samples });
    }
    Ok(found)
}

/// What each image of `name` scored, if that is connected and of one seed.
///
/// # Errors
/// It is not what `scores` was made of.
fn samples_of(context: &StageContext, name: &str, scores: &[Scores]) -> Result<Option<Samples>> {
    let members = context.members(SAMPLES);
    let ([member], [scores]) = (&meant(&members, name)[..], scores) else { return Ok(None) };
    let samples = Samples::read(&context.input(&format!("{SAMPLES}.{member}"))?)?;
    if !samples.are_of(scores) {
        let fault = Fault::user(format!("`{SAMPLES}.{name}` are not of the images that `scores.{name}` is of"));
        return Err(fault.help("connect both outputs of the same `evaluate`").into());
    }
    Ok(Some(samples))
}

/// The seeds that `name` stands for, by number; none if it is one stage's.
fn seeds_of(members: &[Member], name: &str) -> Option<Vec<u64>> {
    let seed = |shown: &str| members.iter().find(|m| m.name == shown)?.of_seed.as_ref().map(|of| of.seed);
    meant(members, name).into_iter().map(seed).collect()
}

fn fill(params: &Params, scores: &BTreeMap<String, Judged>, context: &StageContext) -> Result<Form> {
    let (mut rows, mut longest) = (Vec::new(), Vec::new());
    for spec in &params.rows {
        let cells = params.columns.iter().map(|c| seeds::column(&scores[&spec.scores].scores, c)).collect();
        let cost = cost(context, &spec.seconds)?;
        rows.push(Row {
            title: spec.title.clone(),
            seconds: cost.as_ref().map(|c| c.seconds),
            cpu_seconds: cost.as_ref().and_then(|c| c.cpu_seconds),
            gpu_seconds: cost.as_ref().and_then(|c| c.gpu_seconds),
            gradients: cost.as_ref().map(|c| c.gradients),
            operations: cost.as_ref().filter(|_| params.operations).and_then(|c| c.operations),
            cells,
            average: None,
        });
        longest.push(cost.and_then(|c| c.longest));
    }
    let asked = params.averaged();
    let averaged: Vec<usize> =
        params.columns.iter().enumerate().filter(|(_, c)| asked.contains(c)).map(|(i, _)| i).collect();
    row::average(&mut rows, &averaged);
    let kept = params.kept.as_ref().map(|k| {
        let share = |(column, teacher): (&String, &String)| {
            let of = |name: &String| seeds::column(&scores[name].scores, column).map(|c| c.mean);
            Some((column.clone(), form::kept(of(&k.base)?, of(teacher)?, of(&k.student)?)))
        };
        k.teachers.iter().filter_map(share).collect()
    });
    let by_seed = params.kept.iter().flat_map(|k| {
        let share = |(column, teacher): (&String, &String)| {
            Some((column.clone(), kept_by_seed(&scores[&k.base], &scores[teacher], &scores[&k.student], column)?))
        };
        k.teachers.iter().filter_map(share).collect::<Vec<_>>()
    });
    let kept_by_seed = by_seed.collect();
    let names: Vec<&str> = params.rows.iter().map(|r| r.scores.as_str()).collect();
    let place = |name: &String| names.iter().position(|n| n == name);
    let budget = Budget::of(params.equal.iter().filter_map(place).map(|place| &rows[place]));
    let measure = params.multiples_of.as_ref().and_then(place);
    let by_row: Vec<(&Row, Option<f64>)> = rows.iter().zip(longest).collect();
    let multiples = measure.and_then(|place| Multiples::of(&by_row, place));
    let differences = params.differences.as_ref().and_then(place).map(|place| {
        let judged: Vec<_> = params.rows.iter().map(|row| (row.title.as_str(), &scores[&row.scores])).collect();
        Differences::of(&judged, place, &params.columns)
    });
    let published = params.published.as_ref().map(|p| published::compare(p, &names, &params.columns, &rows));
    Ok(Form {
        title: params.title.clone(),
        columns: params.columns.clone(),
        averaged: asked,
        rows,
        kept: kept.unwrap_or_default(),
        kept_by_seed,
        budget,
        multiples,
        differences,
        published,
    })
}

/// The share of the teacher's gain that the student keeps, seed by seed; nothing where they have not the same several seeds.
fn kept_by_seed(base: &Judged, teacher: &Judged, student: &Judged, column: &str) -> Option<Vec<f64>> {
    let seeds = student.seeds.as_ref().filter(|seeds| seeds.len() > 1 && student.seeds == teacher.seeds)?;
    let of = |row: &Judged, i: usize| row.scores.get(i).or_else(|| row.scores.first())?.mean(column).map(|m| m.mean);
    (0..seeds.len()).map(|i| Some(form::kept(of(base, i)?, of(teacher, i)?, of(student, i)?))).collect()
}

/// The first images of every set of one model; of its first seed, if there are several.
fn image_row(context: &StageContext, name: &str, count: usize) -> Result<Vec<Image>> {
    let members = context.members("images");
    let Some(first) = meant(&members, name).first().copied() else { return Ok(Vec::new()) };
    let folder = context.input(&format!("images.{first}"))?;
    let mut row = Vec::new();
    for set in sorted(&folder)? {
        let mut files: Vec<_> =
            sorted(&set)?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "png")).collect();
        files.truncate(count);
        for file in files {
            row.push(images::read_png(&file)?);
        }
    }
    Ok(row)
}

fn sorted(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|e| Ok(e?.path()))
        .collect::<Result<Vec<_>>>()?;
    found.sort();
    Ok(found)
}
