//! Stable Diffusion 3.5 Medium's sizes with random weights: to measure time and memory where the real weights are not.
//!
//!     full_size make FOLDER [--tiny]          a folder in diffusers' layout, bf16, in shards, without T5
//!     full_size steps FOLDER [--device cuda:0] [--pixels 512] [--batch 4] [--images 4] [--steps 3] [--dtype bf16] [--threads 2]
//!         [--recompute yes] [--profile FOLDER]
//!     full_size group [--device cuda:0]
//!
//! `steps` prints a JSON object: seconds of a forward pass, of a round of distillation and of one of DiffusionNFT of so many images, in
//! micro-batches of `--batch` or as many as fit; their share of what a large product of matrices reaches on the device; and the largest
//! memory of the process. With `--profile`, also what libtorch asked of the device in each, with the traces in that folder. `group`
//! makes a group of one process, by NCCL where the program was built with it, and holds what comes back against what was sent.
//! `--tiny` has the same form with small numbers, to try the commands.

mod folder;
mod group;
mod steps;

use anyhow::{Context as _, Result, bail};
use std::path::Path;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["make", to] => folder::make(Path::new(to), &folder::Sizes::medium()),
        ["make", to, "--tiny"] => folder::make(Path::new(to), &folder::Sizes::tiny()),
        ["steps", from, ref options @ ..] => steps::run(Path::new(from), &Options(options)),
        ["group", ref options @ ..] => group::run(&Options(options)),
        _ => bail!(
            "usage: full_size make FOLDER [--tiny] | full_size steps FOLDER [--OPTION VALUE].. | full_size group [--device D]"
        ),
    }
}

/// `--name value`, in any order.
struct Options<'a>(&'a [&'a str]);

impl Options<'_> {
    fn text<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        match self.0.iter().position(|w| *w == name) {
            Some(at) => self.0.get(at + 1).copied().with_context(|| format!("{name} without a value")),
            None => Ok(default),
        }
    }

    fn number(&self, name: &str, default: i64) -> Result<i64> {
        let text = self.text(name, "")?;
        if text.is_empty() { Ok(default) } else { text.parse().with_context(|| format!("{name} {text}")) }
    }

    /// A number of things, at least one.
    fn count(&self, name: &str, default: usize) -> Result<usize> {
        let number = self.number(name, default.try_into()?)?;
        usize::try_from(number).ok().filter(|n| *n > 0).with_context(|| format!("{name} {number}: expected 1 or more"))
    }
}
