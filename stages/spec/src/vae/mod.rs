//! The autoencoder by its configuration.

mod config;
mod cost;

pub use config::VaeConfig;
