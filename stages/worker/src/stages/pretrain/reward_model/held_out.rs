//! How good a reward model is: of how many pairs of held-out prompts it prefers the right image.

use super::images::{Candidate, Images, Sort, looks};
use anyhow::Result;
use opdflow_models::rng::{Choices, derive};
use opdflow_rewards::{Image, Reward, Subject};
use serde::Serialize;
use std::collections::BTreeMap;

/// One kind of pairs.
#[derive(Debug, Serialize)]
pub struct Accuracy {
    /// The share of which the better image has the larger score.
    pub accuracy: f64,
    /// How many there are.
    pub pairs: usize,
}

/// A better and a worse image for prompt `index`.
struct Pair {
    index: usize,
    better: Image,
    worse: Image,
}

/// Looks that differ by less say nothing.
const APART: f64 = 0.05;

/// `count` pairs of each kind, fewer where there are not so many: `wrong`, drawn right against one thing wrong; `other`,
/// against another prompt's image; `blank`, against nothing at all; `looks`, two drawn right of which one has the higher
/// `looks`; of a model's images `sample_fits`, where the prompt decides, and `sample_looks`, where the looks do.
fn pairs(images: &Images, count: usize, seed: u64) -> Result<BTreeMap<&'static str, Vec<Pair>>> {
    let mut found = BTreeMap::<&'static str, Vec<Pair>>::new();
    for (number, index) in (0..images.prompts.len()).cycle().take(count).enumerate() {
        let draw = |purpose: &str| derive(seed, purpose, number as u64);
        let mut put = |kind, pair: Option<(Candidate, Candidate)>| {
            if let Some((better, worse)) = pair {
                found.entry(kind).or_default().push(Pair { index, better: better.image, worse: worse.image });
            }
        };
        for (kind, sort) in [("wrong", Sort::Wrong), ("other", Sort::Other), ("blank", Sort::Blank)] {
            let right = images.candidate(index, Sort::Right, draw("right"), false)?;
            put(kind, by_fit(right, images.candidate(index, sort, draw(kind), false)?));
        }
        let other = images.candidate(index, Sort::Right, draw("altered"), true)?;
        put("looks", by_looks(images.candidate(index, Sort::Right, draw("right"), false)?, other)?);
        let made = images.samples(index);
        if made.len() > 1 {
            let order = Choices::new(draw("order")).permutation(made.len());
            let (first, second) = (&made[order[0]], &made[order[1]]);
            put("sample_fits", by_fit(first.clone(), second.clone()));
            put("sample_looks", by_looks(first.clone(), second.clone())?);
        }
    }
    Ok(found)
}

/// The pair with the one that fits first, if one fits and the other does not.
fn by_fit(first: Candidate, second: Candidate) -> Option<(Candidate, Candidate)> {
    match (first.fits >= 1.0, second.fits >= 1.0) {
        (true, false) => Some((first, second)),
        (false, true) => Some((second, first)),
        _ => None,
    }
}

/// The pair with the one that looks better first, if both fit alike and look apart.
fn by_looks(first: Candidate, second: Candidate) -> Result<Option<(Candidate, Candidate)>> {
    let (a, b) = (looks(&first.image)?, looks(&second.image)?);
    let alike = (first.fits - second.fits).abs() < 1e-9 && (a - b).abs() >= APART;
    Ok(alike.then_some(if a > b { (first, second) } else { (second, first) }))
}

/// The accuracy by kind of pair, and of all of them as `all`.
///
/// # Errors
/// The reward model fails.
pub fn accuracy(
    reward: &dyn Reward,
    images: &Images,
    count: usize,
    seed: u64,
) -> Result<BTreeMap<&'static str, Accuracy>> {
    let mut told = BTreeMap::new();
    let (mut all, mut all_right) = (0, 0);
    for (kind, pairs) in pairs(images, count, seed)? {
        let subjects: Vec<Subject> =
            pairs.iter().map(|p| Subject { text: &images.prompts[p.index].text, ..Subject::default() }).collect();
        let score = |side: fn(&Pair) -> &Image| -> Result<Vec<f64>> {
            let shown: Vec<Image> = pairs.iter().map(|p| side(p).clone()).collect();
            let scores = reward.score(&shown, &subjects).map_err(crate::judging::score::fault)?;
            Ok(scores.iter().map(|s| s.value).collect())
        };
        let (better, worse) = (score(|p| &p.better)?, score(|p| &p.worse)?);
        let right = better.iter().zip(&worse).filter(|(b, w)| b > w).count();
        (all, all_right) = (all + pairs.len(), all_right + right);
        told.insert(kind, share(right, pairs.len()));
    }
    told.insert("all", share(all_right, all));
    Ok(told)
}

fn share(right: usize, pairs: usize) -> Accuracy {
    Accuracy { accuracy: right as f64 / pairs.max(1) as f64, pairs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_kinds::model::bundle::judge_part;
    use opdflow_miniature::{Mix, Split, prompts};
    use std::path::Path;
    use tch::Device;

    fn drawn() -> Images {
        Images::drawn(prompts(&Mix::all(), 96, 5, Split::Test), 5)
    }

    /// Opens a reward model of the program by the code that reads published ones.
    fn bundled(source: &str, name: &str, folder: &Path) -> Box<dyn Reward> {
        let kind = opdflow_reward_models::named(name).unwrap();
        for part in kind.parts {
            let files = judge_part(source, name, part.name);
            assert!(!files.is_empty(), "{name}: {}", part.name);
            std::fs::create_dir_all(folder.join(part.name)).unwrap();
            for (path, bytes) in files {
                std::fs::write(folder.join(part.name).join(path), bytes).unwrap();
            }
        }
        opdflow_reward_models::open(name, folder, Device::Cpu).unwrap()
    }

    /// What docs/reference/rewards.md says of them, with room for the smaller number of pairs: each prefers right images.
    #[test]
    fn the_programs_reward_models_prefer_the_right_images() {
        let (images, dir) = (drawn(), tempfile::tempdir().unwrap());
        for (source, name, least) in [
            ("bundled:mini", "clipscore", &[("wrong", 0.88), ("other", 0.95), ("blank", 0.95)][..]),
            ("bundled:mini-heldout", "clipscore", &[("wrong", 0.85), ("other", 0.95), ("blank", 0.95)]),
            ("bundled:mini", "pickscore", &[("wrong", 0.8), ("other", 0.95), ("blank", 0.95)]),
            ("bundled:mini", "hpsv2", &[("wrong", 0.75), ("other", 0.95), ("blank", 0.95)]),
            ("bundled:mini", "imagereward", &[("wrong", 0.55), ("other", 0.8), ("blank", 0.95)]),
        ] {
            let reward = bundled(source, name, &dir.path().join(source).join(name));
            let told = accuracy(&*reward, &images, 96, 5).unwrap();
            for (kind, least) in least {
                assert!(told[kind].accuracy >= *least, "{source} {name} {kind}: {told:?}");
            }
        }
    }

    struct ByLight;

    impl Reward for ByLight {
        fn name(&self) -> &str {
            "light"
        }
        fn applies(&self, _: &Subject) -> bool {
            true
        }
        fn score(
            &self,
            images: &[Image],
            _: &[Subject],
        ) -> Result<Vec<opdflow_rewards::Score>, opdflow_rewards::RewardError> {
            let light = |i: &Image| i.rgb.iter().map(|v| f64::from(*v)).sum::<f64>();
            Ok(images.iter().map(|i| opdflow_rewards::Score::new(light(i), [])).collect())
        }
    }

    /// Brightness says nothing of a scene of shapes: about half of the pairs.
    #[test]
    fn a_reward_that_knows_nothing_gets_half() {
        let told = accuracy(&ByLight, &drawn(), 400, 9).unwrap();
        assert!((told["wrong"].accuracy - 0.5).abs() < 0.12, "{told:?}");
        let sum: usize = told.iter().filter(|(kind, _)| **kind != "all").map(|(_, a)| a.pairs).sum();
        assert_eq!(told["all"].pairs, sum);
    }
}
