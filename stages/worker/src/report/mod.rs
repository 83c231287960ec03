//! Numbers and pictures for people.

pub mod grid;
pub mod seeds;
