//! The graph of a plan: order, neighbours, longest paths.

use super::Planned;
use crate::recipe::Recipe;
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use std::collections::{BTreeMap, BTreeSet};

/// The stages of `recipe` by number, each after all that it needs; of those that could come next, the one that
/// stands first in the file. A checked recipe has no cycle; what stood in one would be left out.
pub(super) fn order(recipe: &Recipe) -> Vec<usize> {
    let number: BTreeMap<&str, usize> = recipe.stages.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let mut open: Vec<BTreeSet<usize>> = recipe
        .stages
        .iter()
        .map(|s| s.needs.values().filter_map(|up| number.get(up.stage.as_str()).copied()).collect())
        .collect();
    let mut readers = vec![Vec::new(); open.len()];
    for (i, needs) in open.iter().enumerate() {
        for &up in needs {
            readers[up].push(i);
        }
    }
    let mut ready: BTreeSet<usize> = (0..open.len()).filter(|&i| open[i].is_empty()).collect();
    let mut order = Vec::with_capacity(open.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for &reader in &readers[i] {
            if open[reader].remove(&i) && open[reader].is_empty() {
                ready.insert(reader);
            }
        }
    }
    order
}

/// A node for each stage, an edge from each to each of its readers.
pub(super) fn of(stages: &[Planned]) -> DiGraph<(), ()> {
    let mut graph = DiGraph::with_capacity(stages.len(), stages.len() * 2);
    for _ in stages {
        graph.add_node(());
    }
    for (i, stage) in stages.iter().enumerate() {
        // Each once. To ask the graph would go through all readers of a stage that everybody reads.
        for up in stage.needs.values().map(|(up, _)| *up).collect::<BTreeSet<_>>() {
            graph.add_edge(NodeIndex::new(up), NodeIndex::new(i), ());
        }
    }
    graph
}

/// Neighbours of `i`, each once, in order.
pub(super) fn next(graph: &DiGraph<(), ()>, i: usize, direction: Direction) -> Vec<usize> {
    let found: BTreeSet<usize> = graph.neighbors_directed(NodeIndex::new(i), direction).map(NodeIndex::index).collect();
    found.into_iter().collect()
}

/// `targets` and all that they stand on.
pub(super) fn needed(graph: &DiGraph<(), ()>, targets: &[usize]) -> Vec<usize> {
    let mut found = BTreeSet::new();
    let mut open = targets.to_vec();
    while let Some(i) = open.pop() {
        if i < graph.node_count() && found.insert(i) {
            open.extend(next(graph, i, Direction::Incoming));
        }
    }
    found.into_iter().collect()
}

/// The cost of the longest path from each node to an end, itself included. Nodes stand in topological order.
pub(super) fn critical(graph: &DiGraph<(), ()>, seconds: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut longest = vec![0.0; graph.node_count()];
    for i in (0..graph.node_count()).rev() {
        let after = next(graph, i, Direction::Outgoing).into_iter().map(|n| longest[n]).fold(0.0, f64::max);
        longest[i] = seconds(i).max(0.0) + after;
    }
    longest
}
