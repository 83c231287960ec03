//! Tables and figures name their inputs: what is not connected, and which columns there are.

use crate::judging::wanted::Columns;
use opdflow_api::port::meant;
use opdflow_api::{Foreseen, ParamFault, Ports};
use std::collections::{BTreeMap, BTreeSet};

/// The fault of a parameter at `path` that names on `port` what is not connected there; the way out is a name, or for cells
/// of a matrix the selector of one.
pub fn unconnected(ports: &Ports, port: &str, name: &str, path: String) -> Option<ParamFault> {
    if !meant(&ports.members(port), name).is_empty() {
        return None;
    }
    let names = ports.names(port);
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
