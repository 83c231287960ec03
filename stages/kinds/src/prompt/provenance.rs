//! Which prompts a set holds and an adapter was trained on, as far as that is known before a run: for telling leaks.
//!
//! What travels with a plan is where the prompts come from, not the prompts themselves. Sets that are drawn from the
//! miniature's world have no source here: it draws its sets apart.

use opdflow_api::Foreseen;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Where a set of prompts comes from: a stage `prompts` with these parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The recipe's folder.
    pub folder: PathBuf,
    /// The stage's parameters.
    pub params: Value,
    /// `train`, `validation` or `test`.
    pub set: String,
}

impl Source {
    /// As a text: it has no part in what a step costs, unlike the numbers that are foreseen.
    fn text(&self) -> String {
        json!(self).to_string()
    }
}

/// What is foreseen of a set of prompts, and that it comes from `source`.
pub fn from(mut foreseen: Value, source: &Source) -> Value {
    if let Value::Object(fields) = &mut foreseen {
        fields.insert("from".to_owned(), json!([source.text()]));
    }
    foreseen
}

/// The number of prompts of a set that is foreseen.
pub fn count(foreseen: &Value) -> Option<u64> {
    foreseen.as_u64().or_else(|| foreseen.get("count")?.as_u64())
}

pub(crate) fn sources(foreseen: &Value) -> Vec<Source> {
    let texts: Vec<String> = foreseen.get("from").and_then(|v| Vec::deserialize(v).ok()).unwrap_or_default();
    texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect()
}

/// The names of ports and what is foreseen of them: those called `name`, and those below `name.`.
pub(crate) fn on<'a>(inputs: &'a Foreseen, name: &'a str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let fits = move |port: &str| port.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    inputs.iter().filter(move |(port, _)| fits(port))
}

/// What is foreseen of adapters that are made on the prompts and of the adapters on these ports: all prompts that had a
/// part in them. The same for each of `outputs`.
pub fn trained(inputs: &Foreseen, ports: &[&str], outputs: &[&str]) -> Foreseen {
    let mut all: Vec<Source> = Vec::new();
    for source in ports.iter().flat_map(|port| on(inputs, port)).flat_map(|(_, v)| sources(v)) {
        if !all.contains(&source) {
            all.push(source);
        }
    }
    if all.is_empty() {
        return Foreseen::new();
    }
    let all: Vec<String> = all.iter().map(Source::text).collect();
    outputs.iter().map(|output| ((*output).to_owned(), json!({"from": all}))).collect()
}

/// Two things that are foreseen of the same outputs, as one.
pub fn both(mut one: Foreseen, other: Foreseen) -> Foreseen {
    for (port, value) in other {
        match (one.get_mut(&port), value) {
            (Some(Value::Object(fields)), Value::Object(more)) => fields.extend(more),
            (_, value) => drop(one.insert(port, value)),
        }
    }
    one
}
