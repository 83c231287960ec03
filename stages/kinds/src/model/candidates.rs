//! What is known of the candidates of a training before it runs.

use opdflow_api::Foreseen;

/// What a stage says of its candidates before it runs: how many, and the bytes of each. A training of `rounds` keeps one
/// every `every` rounds, and the last.
#[must_use]
pub fn announced(rounds: u64, every: u64, bytes: u64) -> serde_json::Value {
    serde_json::json!({"count": rounds.div_ceil(every.max(1)), "bytes": bytes})
}

/// The same on the port `candidates`, if it is known.
#[must_use]
pub fn foreseen(inputs: &Foreseen) -> Option<(u64, u64)> {
    let known = inputs.get("candidates")?;
    Some((known.get("count")?.as_u64()?, known.get("bytes")?.as_u64()?))
}
