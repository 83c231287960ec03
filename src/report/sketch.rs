//! Which stage reads from which, ready to be drawn: as lines, for Graphviz, as SVG (`svg.rs`), as JSON.

use crate::plan::Plan;
use crate::recipe::Cell;
use opdflow_io::terminal::shown;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A stage, or all cells of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageBox {
    /// The stage as written in the recipe, or the cell's whole name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// How many cells it stands for; 0 if it is no matrix, or one cell of one.
    pub cells: usize,
    /// How many boxes stand before it in the longest row that leads to it.
    pub depth: usize,
}

/// A drawing without places: boxes in the order of the plan, and what goes from one to the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    /// The recipe's name.
    pub title: String,
    /// The boxes.
    pub boxes: Vec<StageBox>,
    /// By the two ends, the outputs that go that way.
    pub arrows: BTreeMap<(usize, usize), Vec<String>>,
}

impl Sketch {
    /// Of a plan; with `fold`, a matrix is one box.
    #[must_use]
    pub fn of(plan: &Plan, fold: bool) -> Self {
        let mut sketch = Self { title: plan.recipe.name.clone(), ..Self::default() };
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut place_of: Vec<usize> = Vec::with_capacity(plan.stages.len());
        let mut depths: Vec<usize> = Vec::with_capacity(plan.stages.len());
        for (i, stage) in plan.stages.iter().enumerate() {
            let whole = stage.spec.name.as_str();
            let written = Cell::parse(whole).map_or(whole, |c| c.stage);
            let name = if fold { written } else { whole };
            depths.push(plan.upstream(i).into_iter().filter_map(|u| depths.get(u)).max().map_or(0, |d| d + 1));
            let place = *places.entry(name).or_insert_with(|| {
                let kind = stage.spec.kind.describe().kind.to_owned();
                sketch.boxes.push(StageBox { name: name.to_owned(), kind, cells: 0, depth: 0 });
                sketch.boxes.len() - 1
            });
            let one = &mut sketch.boxes[place];
            one.depth = one.depth.max(depths[i]);
            one.cells += usize::from(written != whole && fold);
            place_of.push(place);
        }
        for (i, stage) in plan.stages.iter().enumerate() {
            for (upstream, port) in stage.needs.values() {
                let outputs = sketch.arrows.entry((place_of[*upstream], place_of[i])).or_default();
                if !outputs.contains(port) {
                    outputs.push(port.clone());
                }
            }
        }
        sketch
    }

    /// The name, and of how many cells it is.
    #[must_use]
    pub fn label(&self, i: usize) -> String {
        match self.boxes[i].cells {
            0 => self.boxes[i].name.clone(),
            n => format!("{} x {n}", self.boxes[i].name),
        }
    }

    /// Lines for the terminal, each box indented by its depth.
    #[must_use]
    pub fn lines(&self) -> String {
        let name = |i: usize| format!("{}{}", "  ".repeat(self.boxes[i].depth), self.label(i));
        let all = 0..self.boxes.len();
        let names = all.clone().map(|i| name(i).chars().count()).max().unwrap_or(0).min(120);
        let kinds = self.boxes.iter().map(|b| b.kind.len()).max().unwrap_or(0);
        let mut reads: Vec<Vec<&str>> = vec![Vec::new(); self.boxes.len()];
        for (from, to) in self.arrows.keys() {
            reads[*to].push(&self.boxes[*from].name);
        }
        let mut out = String::new();
        for i in all {
            let reads = if reads[i].is_empty() { String::new() } else { format!("<- {}", reads[i].join(", ")) };
            let line = format!("{:names$}  {:kinds$}  {reads}", name(i), self.boxes[i].kind);
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// For `dot -Tsvg`.
    #[must_use]
    pub fn dot(&self) -> String {
        let quoted =
            |text: &str| format!("\"{}\"", shown(text).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
        let mut out = format!("digraph {} {{\n  rankdir=LR\n  node [shape=box]\n", quoted(&self.title));
        for (i, one) in self.boxes.iter().enumerate() {
            let label = quoted(&format!("{}\n{}", self.label(i), one.kind));
            out.push_str(&format!("  {} [label={label}]\n", quoted(&one.name)));
        }
        for ((from, to), outputs) in &self.arrows {
            let (from, to) = (quoted(&self.boxes[*from].name), quoted(&self.boxes[*to].name));
            out.push_str(&format!("  {from} -> {to} [label={}]\n", quoted(&outputs.join(", "))));
        }
        out.push_str("}\n");
        out
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let stages =
            self.boxes.iter().map(|b| json!({"stage": b.name, "kind": b.kind, "depth": b.depth, "cells": b.cells}));
        let edges = self.arrows.iter().map(|((from, to), outputs)| {
            json!({"from": self.boxes[*from].name, "to": self.boxes[*to].name, "outputs": outputs})
        });
        json!({"recipe": self.title, "stages": stages.collect::<Vec<_>>(), "edges": edges.collect::<Vec<_>>()})
    }
}
