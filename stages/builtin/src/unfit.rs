//! Whose fault it is that weights cannot be read, and the way out.

use opdflow_flow::finite::NotFinite;
use opdflow_flow::weights::WeightsError;
use opdflow_stage::Fault;

/// The fault of an error from reading weights of the user's: of numbers that are not finite it is that class, with its own
/// way out; else the user's.
pub fn unfit(error: &anyhow::Error) -> Fault {
    broken(error, "").unwrap_or_else(|| Fault::user(format!("{error:#}")))
}

/// The fault of numbers that are not finite, if that is what the error is. `what` stands before its words.
pub fn broken(error: &anyhow::Error, what: &str) -> Option<Fault> {
    let message = format!("{what}{error:#}");
    for cause in error.chain() {
        if let Some(fault) = cause.downcast_ref::<Fault>().filter(|f| f.class == opdflow_stage::FaultClass::NotFinite) {
            return Some(Fault { message, help: None, ..fault.clone() });
        }
        match cause.downcast_ref::<WeightsError>() {
            Some(WeightsError::NotFinite { .. }) => {
                let help = "download or export it again; if it was trained, take a step from before it diverged";
                return Some(Fault::not_finite(message).help(help));
            }
            Some(WeightsError::NoRoom { .. }) => {
                let help = "take `bf16` or `f32` for it, which have room for larger numbers";
                return Some(Fault::not_finite(message).help(help));
            }
            _ => {}
        }
        if cause.is::<NotFinite>() {
            return Some(Fault::not_finite(message).help("lower the learning rate, or clip harder"));
        }
    }
    None
}
