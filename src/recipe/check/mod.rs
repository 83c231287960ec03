//! Stages held against their kinds: parameters and connections.

pub(crate) mod late;
pub(crate) mod params;
pub(crate) mod ports;
