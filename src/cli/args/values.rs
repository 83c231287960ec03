//! Values of the command line, from words: each says what it expects.

use crate::recipe;
use std::path::PathBuf;
use std::time::Duration;

/// Most images, steps, or images at once.
pub const MOST: usize = 1_000_000;

/// Where stages run, other than on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The file of its profile, if it was named.
    pub profile: Option<PathBuf>,
}

pub(super) fn cluster(text: &str) -> Result<Cluster, String> {
    match text.split_once('=') {
        None if text == "slurm" => Ok(Cluster { profile: None }),
        Some(("slurm", file)) if !file.is_empty() => Ok(Cluster { profile: Some(file.into()) }),
        _ => Err("expected `slurm`, or `slurm=FILE`; without `--on` stages run on this machine".into()),
    }
}

pub(super) fn assignment(text: &str) -> Result<(String, String), String> {
    // The name of a cell has signs of its own: `student[seed=1].with.rounds=5`.
    let from =
        text.find(['[', '=']).filter(|at| text[*at..].starts_with('[')).and_then(|_| text.find("].")).unwrap_or(0);
    match text[from..].split_once('=').map(|(name, value)| (&text[..from + name.len()], value)) {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, such as `iters=5`".into()),
    }
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(n) if n >= 0.0 && f64::is_finite(n) => Ok(n),
        _ => Err("expected seconds, from 0, which is a checkpoint after each step".into()),
    }
}

pub(super) fn number(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x| f64::is_finite(*x)).ok_or_else(|| "expected a number".into())
}

pub(super) fn t5_length(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=512).contains(&n) => Ok(n),
        _ => Err("expected a whole number from 1 to 512".into()),
    }
}

pub(super) fn device(text: &str) -> Result<String, String> {
    match text.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').map(str::parse::<u8>)) {
        Some(None) if text == "cuda" => Ok("cuda:0".into()),
        Some(Some(Ok(_))) => Ok(text.into()),
        None if text == "cpu" => Ok(text.into()),
        _ => Err("expected `cpu`, `cuda` or `cuda:N`".into()),
    }
}

/// A number of things that are made one after the other, each of which takes a while.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=MOST).contains(&n) => Ok(n),
        _ => Err(format!("expected a whole number from 1 to {MOST}")),
    }
}

pub(super) fn part(text: &str) -> Result<(String, String), String> {
    let (name, path) =
        text.split_once('=').filter(|(name, path)| !name.is_empty() && !path.is_empty()).ok_or("expected NAME=PATH")?;
    Ok((name.to_owned(), path.to_owned()))
}

pub(super) fn megabytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= 1000 => Ok(n),
        _ => Err("expected a whole number from 0 to 1000".into()),
    }
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=recipe::MOST_THREADS).contains(&n) => Ok(n),
        _ => Err(format!("expected a whole number from 1 to {}", recipe::MOST_THREADS)),
    }
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    recipe::size(text).ok_or_else(|| "expected a size, such as `500M` or `20G`".into())
}

/// `90s`, `36h`, `7d`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    let (number, unit) = split(text);
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
    let seconds = number.filter(|n| *n == 0.0 || factor.is_some()).map(|n| n * factor.unwrap_or(&1.0));
    seconds
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| "expected a time, such as `90s`, `36h` or `7d`".into())
}

/// A number from 0, and the letters behind it.
fn split(text: &str) -> (Option<f64>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (text[..end].parse().ok(), text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, seconds) in [("0", 0), ("90s", 90), ("36h", 129_600), ("7d", 604_800), ("1.5m", 90)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(["", "-1", "x", "5q", "1.2.3h"].iter().all(|t| time(t).is_err()));
        assert!(time("5").is_err());
    }
}
