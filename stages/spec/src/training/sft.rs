//! Parameters of flow matching on the teachers' images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Noise levels per image and round, drawn from those of the student's sampling; all of the trained ones if absent,
    /// which is as many gradients a round as the closed form takes.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(extend("x-formerly" = ["times"]))]
    pub timesteps: Option<usize>,
}
