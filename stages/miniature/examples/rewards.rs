//! Scores a file of images.
//!
//! `rewards --images images.u8 --prompts prompts.jsonl --rewards geneval,ocr,looks` reads raw images of `--side` x `--side`
//! x 3 bytes and one prompt a line, and writes one line of JSON an image: each reward's value and parts, or null where
//! the prompt does not carry what the reward needs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use opdflow_miniature::{Prompt, SIDE};
use opdflow_rewards::ocr::Assets;
use opdflow_rewards::{Geneval, Image, Looks, Ocr, Reward, Score, Subject};

/// Scores a file of images.
#[derive(Parser)]
struct Args {
    /// Raw RGB bytes, one image after the other.
    #[arg(long)]
    images: PathBuf,
    /// One prompt a line, in the order of the images.
    #[arg(long)]
    prompts: PathBuf,
    /// Any of geneval, ocr, looks.
    #[arg(long, default_value = "geneval,ocr,looks", value_delimiter = ',')]
    rewards: Vec<String>,
    /// Width and height of an image.
    #[arg(long, default_value_t = SIDE)]
    side: usize,
    /// Folder with `onnxruntime/` and `ppocr/`; else $OPDFLOW_DEPS, else `.deps` of the workspace.
    #[arg(long)]
    deps: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let deps = args.deps.clone().or_else(|| std::env::var_os("OPDFLOW_DEPS").map(PathBuf::from));
    let deps = deps.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.deps"));
    let make = |name: &String| -> anyhow::Result<Box<dyn Reward>> {
        Ok(match name.as_str() {
            "geneval" => Box::new(Geneval::default()),
            "ocr" => Box::new(Ocr::load(&Assets::in_folder(&deps))?),
            "looks" => Box::new(Looks),
            other => bail!("no reward `{other}`; there are geneval, ocr, looks"),
        })
    };
    let rewards = args.rewards.iter().map(make).collect::<anyhow::Result<Vec<_>>>()?;

    let bytes = fs::read(&args.images).with_context(|| format!("cannot read {}", args.images.display()))?;
    let size = args.side * args.side * 3;
    ensure!(size > 0 && bytes.len() % size == 0, "{} bytes are not a whole number of images", bytes.len());
    let images: Vec<Image> =
        bytes.chunks_exact(size).filter_map(|b| Image::new(args.side, args.side, b.to_vec())).collect();
    let lines = fs::read_to_string(&args.prompts).with_context(|| format!("cannot read {}", args.prompts.display()))?;
    let prompts = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Prompt>, _>>()?;
    ensure!(prompts.len() == images.len(), "{} prompts for {} images", prompts.len(), images.len());
    let subjects: Vec<Subject> = prompts.iter().map(Subject::from).collect();

    let mut table: Vec<Vec<Option<Score>>> = Vec::new();
    for reward in &rewards {
        let at: Vec<usize> = (0..subjects.len()).filter(|&i| reward.applies(&subjects[i])).collect();
        let some: Vec<Image> = at.iter().map(|&i| images[i].clone()).collect();
        let of: Vec<Subject> = at.iter().map(|&i| subjects[i]).collect();
        let mut column = vec![None; subjects.len()];
        for (i, score) in at.into_iter().zip(reward.score(&some, &of)?) {
            column[i] = Some(score);
        }
        table.push(column);
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for i in 0..subjects.len() {
        let row: serde_json::Map<String, serde_json::Value> = rewards
            .iter()
            .zip(&table)
            .map(|(reward, column)| Ok((reward.name().to_owned(), serde_json::to_value(&column[i])?)))
            .collect::<serde_json::Result<_>>()?;
        serde_json::to_writer(&mut out, &row)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
