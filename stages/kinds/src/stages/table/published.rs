//! Published numbers, as recipes write them.

use crate::param::Number;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The column of a row's training time.
pub const SECONDS: &str = "seconds";

/// Published numbers, as recipes write them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The publication, such as `DiffusionOPD, table 1`.
    pub source: String,
    /// Our columns with their names there; `seconds` is the time of training.
    pub columns: BTreeMap<String, String>,
    /// By the row's name on `scores`, its numbers by our column.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, Number>>")]
    pub rows: BTreeMap<String, BTreeMap<String, f64>>,
}
