//! Commands that look at recipes and at the stage kinds that they may name; they change nothing.

mod calls;
pub(crate) mod check;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod plan;
pub(crate) mod schema;
pub(crate) mod stages;
