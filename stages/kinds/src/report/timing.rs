//! Names of trainings whose cost is wanted.

use crate::report::seeds;
use opdflow_api::{ParamFault, Ports};

/// Faults of names on `timings`, as the parameter at `path` has them in lists of lists, under which nothing is connected.
pub fn unconnected(ports: &Ports, names: &[Vec<String>], path: &str) -> Vec<ParamFault> {
    let each =
        names.iter().enumerate().flat_map(|(i, list)| list.iter().enumerate().map(move |(j, name)| (i, j, name)));
    each.filter_map(|(i, j, name)| seeds::unconnected(ports, "timings", name, format!("{path}[{i}][{j}]"))).collect()
}
