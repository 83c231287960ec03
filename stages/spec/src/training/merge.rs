//! How adapters are merged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// The changes of the weights themselves, `sum w_i s_i B_i A_i`, exactly: the ranks add up.
    #[default]
    Product,
    /// A and B apart, as Flow-OPD's released code does. The product of the averages is not the average of the products.
    Factors,
}
