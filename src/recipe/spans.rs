//! Where things stand in a recipe.

use super::{Diagnostic, Span};
use opdflow_stage::ParamFault;

/// Where the parts of a recipe stand.
#[derive(Clone, Debug, Default)]
pub struct Spans {}

impl Spans {
    pub(crate) fn asset_fault(&self, _stage: &str, fault: &ParamFault) -> Diagnostic {
        Diagnostic::error("E050", fault.message.clone(), 0..0, "")
    }
}
