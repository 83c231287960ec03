//! Numbers and images for people.

pub mod grid;
pub mod seeds;
