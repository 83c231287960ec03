//! Several seeds as one number: which inputs a name stands for, their mean, and its interval.

use crate::judging::wanted::Columns;
use opdflow_stage::{Foreseen, ParamFault, Ports, port};
use std::collections::{BTreeMap, BTreeSet};

/// The inputs that `name` stands for: the one of this name or, where a stage was collected over a matrix of seeds,
/// `NAME_seed_1` and so on, by number. Empty if there is none.
pub fn collected<'a>(names: &'a [String], name: &str) -> Vec<&'a str> {
    if let Some(one) = names.iter().find(|n| *n == name) {
        return vec![one];
    }
    let seed = |n: &str| port::seedless(n).filter(|(rest, _)| *rest == name).map(|(_, seed)| seed);
    let mut found: Vec<(u64, &str)> = names.iter().filter_map(|n| Some((seed(n)?, n.as_str()))).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, n)| n).collect()
}

/// The fault of a parameter at `path` that names on `port` what is not connected there; the way out is a name, or for cells
/// of a matrix the selector of one.
pub fn unconnected(ports: &Ports, port: &str, name: &str, path: String) -> Option<ParamFault> {
    let names = ports.names(port);
    if !collected(&names, name).is_empty() {
        return None;
    }
    let cells: Vec<&String> =
        names.iter().filter(|n| n.strip_prefix(name).is_some_and(|n| n.starts_with('_'))).collect();
    let first = cells.first().and_then(|cell| ports.source(&format!("{port}.{cell}")));
    Some(match first.filter(|source| source.contains('[')) {
        Some(source) => {
            let listed = cells.iter().map(|c| c.as_str()).collect::<Vec<_>>().join(", ");
            ParamFault::new(path, format!("`{name}` on `{port}` is {} cells of a matrix: {listed}", cells.len()))
                .help(format!("name one of them, or connect one cell: `{port}: {{{name}: \"{source}\"}}`"))
        }
        None => ParamFault::new(path, format!("nothing is connected as `{port}.{name}`")).help(if names.is_empty() {
            format!("connect it: `{port}: {{{name}: STAGE.OUTPUT}}`")
        } else {
            format!("connected are {}", names.join(", "))
        }),
    })
}

/// The columns of what is connected below `port`, by name; nothing if one of them is not known.
pub fn foreseen(ports: &Ports, inputs: &Foreseen, port: &str) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let of = |name: String| {
        let sets: Columns = serde_json::from_value(inputs.get(&format!("{port}.{name}"))?.clone()).ok()?;
        Some((name, sets.into_values().flatten().collect()))
    };
    ports.names(port).into_iter().map(of).collect()
}

/// The fault of naming a column that none of the scores have.
pub fn no_column(path: String, column: &str, there: &BTreeSet<&String>) -> ParamFault {
    let names: Vec<&str> = there.iter().map(|c| c.as_str()).collect();
    ParamFault::new(path, format!("no scores have a column `{column}`")).help(format!("there are {}", names.join(", ")))
}
