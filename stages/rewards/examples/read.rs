//! Reads the text in PNG files: `read IMAGE...` writes one line of JSON a file, with its name and the lines found in it,
//! each with its text, its confidence and the corners of its box; the last line says how long reading took.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use opdflow_rewards::ocr::Assets;
use opdflow_rewards::{Image, Ocr};
use serde_json::json;

/// Reads the text in PNG files.
#[derive(Parser)]
struct Args {
    /// The files.
    images: Vec<PathBuf>,
    /// Folder with `onnxruntime/` and `ppocr/`; else $OPDFLOW_DEPS, else `.deps` of the workspace.
    #[arg(long)]
    deps: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let deps = args.deps.clone().or_else(|| std::env::var_os("OPDFLOW_DEPS").map(PathBuf::from));
    let deps = deps.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.deps"));
    let ocr = Ocr::load(&Assets::in_folder(&deps))?;
    let open = |path: &PathBuf| -> Result<Image> {
        let image = image::open(path).with_context(|| format!("cannot read {}", path.display()))?.to_rgb8();
        Ok(Image { width: image.width() as usize, height: image.height() as usize, rgb: image.into_raw() })
    };
    let images = args.images.iter().map(open).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let read = ocr.lines(&images)?;
    let seconds = start.elapsed().as_secs_f64();
    for (path, lines) in args.images.iter().zip(read) {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| json!({"text": line.text, "confidence": line.confidence, "corners": line.corners}))
            .collect();
        println!("{}", json!({"file": path, "lines": lines}));
    }
    println!("{}", json!({"seconds": seconds, "images": images.len()}));
    Ok(())
}
