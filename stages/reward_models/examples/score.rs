//! Scores PNG images for a prompt with a reward model's published files: to try a folder, and to compare with numbers
//! that others have published.
//!
//!     cargo run --release -p opdflow-reward-models --example score -- pickscore FOLDER 'a red circle' a.png b.png

use anyhow::{Context, Result, bail, ensure};
use opdflow_reward_models::{REWARD_MODELS, named, open};
use opdflow_rewards::{Image, Subject};
use std::path::Path;
use std::time::Instant;
use tch::Device;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder, prompt, files @ ..] = &args[..] else { bail!("usage: score NAME FOLDER PROMPT IMAGE...") };
    let names: Vec<&str> = REWARD_MODELS.iter().map(|c| c.name).collect();
    ensure!(named(name).is_some(), "no reward model is named `{name}`; there are {}", names.join(", "));
    let images = files.iter().map(|f| read(Path::new(f))).collect::<Result<Vec<_>>>()?;
    ensure!(!images.is_empty(), "no images are given");
    let start = Instant::now();
    let reward = open(name, Path::new(folder), Device::cuda_if_available())?;
    println!("opened in {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let subjects = vec![Subject { text: prompt, ..Subject::default() }; images.len()];
    for (file, score) in files.iter().zip(reward.score(&images, &subjects)?) {
        println!("{file}: {:.6} {:?}", score.value, score.parts);
    }
    println!("scored in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn read(path: &Path) -> Result<Image> {
    let image = image::open(path).with_context(|| format!("cannot read {}", path.display()))?.into_rgb8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    Image::new(width, height, image.into_raw()).context("an image of another size than it says")
}
