//! Writes a set of images with their captions.
//!
//! `dump --n 60000 --seed 1 --wrong 0.25 --mix geneval,ocr,scene --out DIR` writes `DIR/images.u8` (n x 64 x 64 x 3 bytes)
//! and `DIR/prompts.jsonl` (one caption with its metadata a line). A share `--wrong` of the images shows
//! something slightly different from its caption.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use opdflow_miniature::{Mix, SIDE, Split, corrupt, prompts, render, stream};
use opdflow_rewards::Image;
use rand::Rng;

/// Writes a set of images with their captions.
#[derive(Parser)]
struct Args {
    /// Number of images.
    #[arg(long, default_value_t = 1000)]
    n: usize,
    /// Seed of prompts and images.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of images that differ from their caption, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    wrong: f64,
    /// Families, optionally with weights: `geneval:2,ocr:1`.
    #[arg(long, default_value = "geneval,ocr,scene")]
    mix: Mix,
    /// train, validation or test.
    #[arg(long, default_value = "train")]
    split: Split,
    /// Folder for `images.u8` and `prompts.jsonl`.
    #[arg(long)]
    out: PathBuf,
    /// Also writes the first images, 16 in a row and at most 256, as one PNG.
    #[arg(long)]
    contact_sheet: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    anyhow::ensure!((0.0..=1.0).contains(&args.wrong), "--wrong is a share, 0 to 1");
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let mut bytes = BufWriter::new(File::create(args.out.join("images.u8"))?);
    let mut lines = BufWriter::new(File::create(args.out.join("prompts.jsonl"))?);
    let mut shown = Vec::new();
    for (i, caption) in prompts(&args.mix, args.n, args.seed, args.split).iter().enumerate() {
        let mut rng = stream(args.seed, i as u64);
        let truth = if rng.random_bool(args.wrong) { corrupt(caption, &mut rng)? } else { caption.clone() };
        let image = render(&truth, &mut rng)?;
        bytes.write_all(&image.rgb)?;
        serde_json::to_writer(&mut lines, caption)?;
        lines.write_all(b"\n")?;
        if shown.len() < 256 {
            shown.push(image);
        }
    }
    bytes.flush()?;
    lines.flush()?;
    if let Some(path) = args.contact_sheet {
        sheet(&shown).save(&path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Images side by side, doubled in size, 16 in a row.
fn sheet(images: &[Image]) -> image::RgbImage {
    let step = 2 * SIDE as u32 + 4;
    let rows = images.len().div_ceil(16).max(1) as u32;
    image::RgbImage::from_fn(16 * step, rows * step, |x, y| {
        let image = images.get((y / step * 16 + x / step) as usize);
        let (px, py) = ((x % step) as usize / 2, (y % step) as usize / 2);
        match image {
            Some(p) if px < SIDE && py < SIDE => image::Rgb(p.pixel(px, py)),
            _ => image::Rgb([255; 3]),
        }
    })
}
