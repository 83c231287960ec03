//! How many rounds a training takes where it may do so many operations as other trainings did.

use crate::report::seeds;
use opdflow_api::{Cause, Mismatch, ParamFault, Ports};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The input port that budgets read.
pub const PORT: &str = "budget";

/// Operations in multiples of those of other trainings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// How many times the operations of `path` it may do.
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0))]
    pub times: f64,
    /// Names on the port `budget`, a list of lists: of what runs side by side the one with the most operations counts, what runs one
    /// after the other adds up.
    #[schemars(length(min = 1))]
    pub path: Vec<Vec<String>>,
}

impl Budget {
    /// What is wrong with it by itself.
    #[must_use]
    pub fn faults(&self) -> Vec<ParamFault> {
        let empty = self.path.iter().enumerate().filter(|(_, names)| names.is_empty());
        let fault = |(i, _)| {
            ParamFault::new(format!("budget.path[{i}]"), "no training is named").help("name one, or take the list out")
        };
        empty.map(fault).collect()
    }
}

/// What is wrong with how long a training lasts: neither `param`, its number of rounds, nor a budget; or the budget itself.
#[must_use]
pub fn endless(param: &'static str, rounds: Option<u64>, budget: Option<&Budget>) -> Vec<ParamFault> {
    if rounds.is_some() || budget.is_some() {
        return budget.map(Budget::faults).unwrap_or_default();
    }
    let cause = Cause::Type(Mismatch::MissingField { name: param });
    let fault = ParamFault { cause, ..ParamFault::new("", format!("`{param}` is missing")) };
    vec![fault.help(format!("say how many rounds: `{param}: 100`, or give it a `budget`"))]
}

/// What a plan says of a training that ends by `rules`: `rounds: by its budget, at most 300`.
#[must_use]
pub fn ends(rules: &[&str], most: Option<u64>) -> String {
    let most = most.map_or_else(String::new, |most| format!(", at most {most}"));
    format!("rounds: by {}{most}", rules.join(" and "))
}

/// Names of a budget under which nothing is connected, and connected trainings that no budget names.
#[must_use]
pub fn unwired(budget: Option<&Budget>, ports: &Ports) -> Vec<ParamFault> {
    let members = ports.members(PORT);
    let (mut faults, mut named) = (Vec::new(), BTreeSet::new());
    for (i, side_by_side) in budget.iter().flat_map(|b| &b.path).enumerate() {
        for (j, name) in side_by_side.iter().enumerate() {
            faults.extend(seeds::unconnected(ports, PORT, name, format!("budget.path[{i}][{j}]")));
            named.extend(opdflow_api::port::meant(&members, name));
        }
    }
    for member in members.iter().filter(|m| !named.contains(m.name.as_str())) {
        let (what, help) = match budget {
            Some(_) => ("`budget.path` does not name it", "name it there, or take it out"),
            None => ("there is no `budget` that reads it", "add `budget: {times: 1.0, path: [[...]]}`, or take it out"),
        };
        faults.push(ParamFault::of_port(format!("{PORT}.{}", member.name), what).help(help));
    }
    faults
}

/// The most rounds, of `round` operations each, that fit into `operations`: at least 1, at most `most` if that is given. What is
/// missing of a whole round to one part in 10^12 is taken for rounding.
#[must_use]
pub fn rounds(operations: f64, round: f64, most: Option<u64>) -> u64 {
    let fit = (operations / round * (1.0 + 1e-12)).floor();
    (fit as u64).clamp(1, most.unwrap_or(u64::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_by_hand() {
        // 1.3 times 200 rounds of 50, in rounds of 40: 13,000 / 40 = 325.
        assert_eq!(rounds(1.3 * 200.0 * 50.0, 40.0, None), 325);
        assert_eq!(rounds(12_999.0, 40.0, None), 324);
        assert_eq!(rounds(13_000.0, 40.0, Some(300)), 300);
        assert_eq!(rounds(13_000.0, 40.0, Some(400)), 325);
        assert_eq!(rounds(39.0, 40.0, None), 1, "at least one");
        // The same training's own operations give its own rounds, whatever the sums were rounded to.
        for n in 1..2000 {
            let round = 1.234_567_890_123e13 / 3.0;
            assert_eq!(rounds(n as f64 * round, round, None), n);
            assert_eq!(rounds((0..n).map(|_| round).sum::<f64>(), round, None), n);
        }
    }

    #[test]
    fn names_and_connections_belong_together() {
        let ports: Ports =
            ["budget.ocr", "budget.student", "base"].map(|p| (p.to_owned(), "x.cost".to_owned())).into_iter().collect();
        let budget = |path: &[&[&str]]| Budget {
            times: 1.3,
            path: path.iter().map(|names| names.iter().map(|n| (*n).to_owned()).collect()).collect(),
        };
        let found = |b: Option<&Budget>| -> Vec<String> {
            unwired(b, &ports).into_iter().map(|f| f.port.unwrap_or(f.path)).collect()
        };
        assert!(found(Some(&budget(&[&["ocr"], &["student"]]))).is_empty());
        assert_eq!(found(Some(&budget(&[&["ocr", "looks"]]))), ["budget.path[0][1]", "budget.student"]);
        assert_eq!(found(None), ["budget.ocr", "budget.student"]);
        assert_eq!(budget(&[&["ocr"], &[]]).faults()[0].path, "budget.path[1]");
    }
}
