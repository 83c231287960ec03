//! `opdflow graph`: which stage reads from which. Looks into no store.

use super::{Exit, Failure, Session, args};
use crate::plan::Plan;
use serde_json::json;
use std::collections::BTreeMap;

pub(super) fn run(session: &Session, args: &args::Graph) -> Result<Exit, Failure> {
    let plan = session.survey(&args.recipe)?;
    let text = match args.format {
        _ if session.json => data(&plan),
        args::Drawing::Text => lines(&plan),
        args::Drawing::Dot => dot(&plan),
    };
    session.print(text.trim_end());
    Ok(Exit::Done)
}

/// How many stages stand before each in the longest row that leads to it.
fn depths(plan: &Plan) -> Vec<usize> {
    let mut depths: Vec<usize> = Vec::with_capacity(plan.stages.len());
    for i in 0..plan.stages.len() {
        let deepest = plan.upstream(i).into_iter().filter_map(|u| depths.get(u)).max();
        depths.push(deepest.map_or(0, |d| d + 1));
    }
    depths
}

fn lines(plan: &Plan) -> String {
    let depths = depths(plan);
    let name = |i: usize| format!("{}{}", "  ".repeat(depths[i]), plan.stages[i].spec.name);
    let all = 0..plan.stages.len();
    let names = all.clone().map(|i| name(i).chars().count()).max().unwrap_or(0);
    let kinds = plan.stages.iter().map(|s| s.spec.kind.describe().kind.len()).max().unwrap_or(0);
    let mut out = String::new();
    for i in all {
        let upstream: Vec<&str> = plan.upstream(i).into_iter().map(|u| plan.stages[u].spec.name.as_str()).collect();
        let reads = if upstream.is_empty() { String::new() } else { format!("<- {}", upstream.join(", ")) };
        let line = format!("{:names$}  {:kinds$}  {reads}", name(i), plan.stages[i].spec.kind.describe().kind);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The outputs that go from each stage to each of its readers.
fn edges(plan: &Plan) -> BTreeMap<(usize, usize), Vec<&str>> {
    let mut edges: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
    for (i, stage) in plan.stages.iter().enumerate() {
        for (upstream, port) in stage.needs.values() {
            let ports = edges.entry((*upstream, i)).or_default();
            if !ports.contains(&port.as_str()) {
                ports.push(port);
            }
        }
    }
    edges
}

fn dot(plan: &Plan) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    let name = |i: usize| plan.stages[i].spec.name.as_str();
    let mut out = format!("digraph {} {{\n  rankdir=LR\n  node [shape=box]\n", quoted(&plan.recipe.name));
    for stage in &plan.stages {
        let label = quoted(&format!("{}\n{}", stage.spec.name, stage.spec.kind.describe().kind));
        out.push_str(&format!("  {} [label={label}]\n", quoted(&stage.spec.name)));
    }
    for ((from, to), ports) in edges(plan) {
        out.push_str(&format!(
            "  {} -> {} [label={}]\n",
            quoted(name(from)),
            quoted(name(to)),
            quoted(&ports.join(", "))
        ));
    }
    out.push_str("}\n");
    out
}

fn data(plan: &Plan) -> String {
    let depths = depths(plan);
    let stages = plan
        .stages
        .iter()
        .zip(depths)
        .map(|(s, depth)| json!({"stage": s.spec.name, "kind": s.spec.kind.describe().kind, "depth": depth}));
    let edges = edges(plan);
    let edges = edges.iter().map(|((from, to), ports)| json!({"from": plan.stages[*from].spec.name, "to": plan.stages[*to].spec.name, "outputs": ports}));
    json!({"recipe": plan.recipe.name, "stages": stages.collect::<Vec<_>>(), "edges": edges.collect::<Vec<_>>()})
        .to_string()
}
