//! From rewards to advantages.

pub use opdflow_spec::advantage::*;

use crate::task::RewardValues;

/// One advantage per image, within `±`[`CLIP`] times the sum of weights.
#[must_use]
pub fn blended(blend: Blend, scores: &[RewardValues], group: usize, spread: Spread) -> Vec<f64> {
    match blend {
        Blend::Rewards => advantages(&RewardValues::sum(scores), group, spread),
        Blend::Advantages => {
            let each = |m: &RewardValues| RewardValues { values: advantages(&m.values, group, spread), ..m.clone() };
            RewardValues::sum(&scores.iter().map(each).collect::<Vec<_>>())
        }
    }
}

/// `(R - mean of the group) / (std + 1e-4)`, cut to `±`[`CLIP`]; the standard deviation is the population's.
/// `rewards` come group after group, `group` of each.
#[must_use]
pub fn advantages(rewards: &[f64], group: usize, spread: Spread) -> Vec<f64> {
    let round = std(rewards);
    rewards
        .chunks(group.max(1))
        .flat_map(|own| {
            let mean = own.iter().sum::<f64>() / own.len() as f64;
            let by = match spread {
                Spread::Round => round,
                Spread::Group => std(own),
            };
            own.iter().map(move |r| ((r - mean) / (by + 1e-4)).clamp(-CLIP, CLIP)).collect::<Vec<_>>()
        })
        .collect()
}

/// Population standard deviation; 0 of nothing.
#[must_use]
pub fn std(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// Share of groups whose rewards are all the same: they teach nothing.
#[must_use]
pub fn flat_groups(rewards: &[f64], group: usize) -> f64 {
    let flat = rewards.chunks(group.max(1)).filter(|own| std(own) < 1e-9).count();
    flat as f64 / rewards.chunks(group.max(1)).count().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // groups (0, 1) and (2, 2): means .5 and 2; std of the round = sqrt(.6875), of the groups .5 and 0
        let r = [0.0, 1.0, 2.0, 2.0];
        let round = 0.6875_f64.sqrt() + 1e-4;
        for (a, e) in advantages(&r, 2, Spread::Round).iter().zip([-0.5 / round, 0.5 / round, 0.0, 0.0]) {
            assert!((a - e).abs() < 1e-12);
        }
        for (a, e) in advantages(&r, 2, Spread::Group).iter().zip([-0.5 / 0.5001, 0.5 / 0.5001, 0.0, 0.0]) {
            assert!((a - e).abs() < 1e-12);
        }
        assert!((flat_groups(&r, 2) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn blended_advantages_forget_the_scale_of_a_reward() {
        let scores = |scale: f64| {
            let of =
                |name: &str, values: [f64; 4]| RewardValues { name: name.into(), weight: 1.0, values: values.into() };
            vec![of("a", [0.0, 1.0, 0.0, 1.0]), of("b", [1.0, 0.0, 1.0, 1.0].map(|v| v * scale))]
        };
        let of = |blend: Blend, scale| blended(blend, &scores(scale), 2, Spread::Group);
        for (a, e) in of(Blend::Advantages, 100.0).iter().zip([0.0, 0.0, -1.0, 1.0]) {
            assert!((a - e).abs() < 1e-3, "{a} {e}");
        }
        // As a sum of rewards, the larger one decides.
        for (a, e) in of(Blend::Rewards, 100.0).iter().zip([1.0, -1.0, -1.0, 1.0]) {
            assert!((a - e).abs() < 1e-3, "{a} {e}");
        }
    }

    #[test]
    fn an_outlier_is_cut() {
        let mut r = vec![0.0; 1000];
        r[0] = 1.0;
        assert!((advantages(&r, 1000, Spread::Round)[0] - CLIP).abs() < 1e-12);
    }
}
