//! What a stage takes: operations and memory, counted before it runs.

pub mod memory;
pub mod operations;
pub mod passes;
