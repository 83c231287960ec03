//! What stages leave and read: how each is written and read again.

pub mod adapter;
pub mod candidates;
pub mod cost;
pub mod curve;
pub mod embeddings;
pub mod json;
pub mod origin;
pub mod outside;
pub mod timing;
