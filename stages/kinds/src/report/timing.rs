//! Names of trainings whose cost is wanted, and the longest path through them.

use crate::report::seeds;
use opdflow_api::{ParamFault, Ports};

/// Faults of names on `timings`, as the parameter at `path` has them in lists of lists, under which nothing is connected.
pub fn unconnected(ports: &Ports, names: &[Vec<String>], path: &str) -> Vec<ParamFault> {
    let each =
        names.iter().enumerate().flat_map(|(i, list)| list.iter().enumerate().map(move |(j, name)| (i, j, name)));
    each.filter_map(|(i, j, name)| seeds::unconnected(ports, "timings", name, format!("{path}[{i}][{j}]"))).collect()
}

/// Of numbers by the same lists of lists, one for each seed, that of the longest path: the largest of what runs side by side, added up
/// over what runs one after the other. What has no seeds of its own is the same for all; of several seeds it is the mean.
/// Nothing if nothing is named.
#[must_use]
pub fn longest(steps: &[Vec<Vec<f64>>]) -> Option<f64> {
    let runs = steps.iter().flatten().map(Vec::len).max().filter(|runs| *runs > 0)?;
    let of_run = |run: usize| -> f64 {
        let largest = |side_by_side: &Vec<Vec<f64>>| {
            side_by_side.iter().filter_map(|seeds| seeds.get(run).or(seeds.first())).copied().fold(0.0, f64::max)
        };
        steps.iter().map(largest).sum()
    };
    Some((0..runs).map(of_run).sum::<f64>() / runs as f64)
}

#[cfg(test)]
mod tests {
    use super::longest;

    #[test]
    fn the_longest_path_by_hand() {
        // Three teachers side by side, then the student: 7 and 4.
        let steps = [vec![vec![5.0], vec![7.0], vec![6.0]], vec![vec![4.0]]];
        assert_eq!(longest(&steps), Some(11.0));
        // Two seeds of one teacher: (7 + 4 + 9 + 4) / 2.
        assert_eq!(longest(&[vec![vec![5.0, 9.0], vec![7.0]], vec![vec![4.0]]]), Some(12.0));
        assert_eq!((longest(&[]), longest(&[vec![]])), (None, None));
    }
}
