//! What tables and figures name: inputs over several seeds and columns.

pub mod seeds;
pub mod timing;
pub mod titles;
