//! What a training reports of a round.

/// Numbers of one round, by name.
pub type Report = Vec<(String, f64)>;
