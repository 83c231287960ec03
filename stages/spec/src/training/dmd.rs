//! Parameters of distribution matching.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose distribution is matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Along {
    /// That of the clean image estimated at a visited state, at any noise level (DMD with simulated states).
    #[default]
    #[schemars(extend("x-formerly" = ["pictures"]))]
    Images,
    /// That of the next state, at noise levels between it and the state before (TDM).
    Path,
}

/// Settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DmdConfig {
    /// Whose distribution is matched.
    pub along: Along,
}
