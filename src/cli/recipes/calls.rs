//! What a plan says of requests to servers.

use crate::plan::Planned;
use opdflow_api::Calls;
use std::collections::BTreeMap;

/// What of these calls is left where this share of the stage's work is.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
pub(super) fn left(calls: &[Calls], rest: f64) -> Vec<Calls> {
    let of = |most: u64| if rest >= 1.0 { most } else { (most as f64 * rest).ceil() as u64 };
    calls
        .iter()
        .map(|calls| Calls { most: calls.most.map(of), ..calls.clone() })
        .filter(|c| c.most != Some(0))
        .collect()
}

/// A line for each server that is asked: how often at the most, and by which stages.
pub(super) fn lines<'p>(stages: impl Iterator<Item = (&'p Planned, f64)>) -> String {
    let mut asked: BTreeMap<String, Vec<(&str, Option<u64>)>> = BTreeMap::new();
    for (stage, rest) in stages {
        for calls in left(&stage.calls, rest) {
            asked.entry(calls.of).or_default().push((&stage.spec.name, calls.most));
        }
    }
    let mut out = String::new();
    for (of, stages) in asked {
        let known = stages.iter().filter_map(|(_, most)| *most).fold(0, u64::saturating_add);
        let total = match (stages.iter().any(|(_, most)| most.is_none()), known) {
            (false, n) => format!("at most {n}"),
            (true, 0) => "nobody knows how many".to_owned(),
            (true, n) => format!("{n} and more"),
        };
        let each =
            |(name, most): &(&str, Option<u64>)| format!("{name} {}", most.map_or("?".to_owned(), |n| n.to_string()));
        let each: Vec<String> = stages.iter().map(each).collect();
        out.push_str(&format!("requests to the server of `{of}`: {total} ({})\n", each.join(", ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_a_share_rounded_up() {
        let calls = |most| vec![Calls { of: "judge".to_owned(), most }];
        assert_eq!(left(&calls(Some(10)), 1.0), calls(Some(10)));
        assert_eq!(left(&calls(Some(10)), 0.25), calls(Some(3)));
        assert_eq!(left(&calls(None), 0.5), calls(None));
        assert!(left(&calls(Some(10)), 0.0).is_empty());
    }
}
