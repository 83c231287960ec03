//! Faults and doubts of stages that came to light after the recipe was read, at their places in it.

use crate::recipe::check::params;
use crate::recipe::spans::Spans;
use crate::recipe::text::diagnostic::Diagnostic;
use opdflow_api::{Doubt, ParamFault, Unreadable};

impl Spans {
    /// A fault of a parameter that came to light after the recipe was read.
    #[must_use]
    pub fn asset_fault(&self, stage: &str, fault: &ParamFault) -> Diagnostic {
        self.fault("E050", stage, fault)
    }
    /// What a stage would read is not what a lock pins.
    #[must_use]
    pub fn pin_fault(&self, stage: &str, label: &str, help: String) -> Diagnostic {
        let span = self.stage(stage).map_or(0..0, |spans| spans.name.clone());
        let title = format!("`{stage}` does not find what the lock pins");
        Diagnostic::error("E053", title, span, label).help(help)
    }
    /// A bug of a stage's kind.
    pub(crate) fn bug(&self, stage: &str, bug: &Unreadable) -> Diagnostic {
        match self.stage(stage) {
            Some(spans) => params::unreadable(spans, bug),
            None => Diagnostic::error("E000", bug.to_string(), 0..0, ""),
        }
    }
    /// What a stage needs of the machine and does not find, at the parameter that calls for it.
    pub fn machine_fault(&self, stage: &str, fault: &ParamFault) -> Diagnostic {
        let title = format!("stage `{stage}` needs what this machine does not have");
        Diagnostic { title, ..self.fault("E051", stage, fault) }
    }
    /// What a stage is doubted for, at the parameter or the connection that it is about.
    #[must_use]
    pub fn doubt(&self, stage: &str, doubt: &Doubt) -> Diagnostic {
        let times = if doubt.count > 1 { format!(" ({} times)", doubt.count) } else { String::new() };
        let title = format!("stage `{stage}`: {}{times}", doubt.warning().message);
        let port = doubt.path.strip_prefix("needs.").and_then(|port| self.stage(stage)?.needs.get(port).cloned());
        let span = match port {
            Some(span) => span,
            None => self.fault(doubt.code, stage, &ParamFault::new(doubt.path.clone(), String::new())).span,
        };
        Diagnostic::warning(doubt.code, title, span, "").help(&*doubt.help)
    }
    /// What does not fit what is known of a stage's inputs, or of the files that it names.
    #[must_use]
    pub fn unfit(&self, stage: &str, fault: &ParamFault) -> Diagnostic {
        self.fault("E045", stage, fault)
    }
    fn fault(&self, code: &'static str, stage: &str, fault: &ParamFault) -> Diagnostic {
        match self.stage(stage) {
            Some(spans) => params::diagnostic(code, stage, spans, fault),
            None => Diagnostic::error(code, fault.message.clone(), 0..0, ""),
        }
    }
}
