//! Whose fault it is that weights cannot be read, and the way out.

use opdflow_api::Fault;
use opdflow_models::finite::NotFinite;
use opdflow_models::weights::WeightsError;

/// The fault of an error from reading weights of the user's: of numbers that are not finite it is that class, with its own
/// way out; else the user's or the machine's.
pub fn unfit(error: &anyhow::Error) -> Fault {
    broken(error, "").unwrap_or_else(|| Fault::about(error))
}

/// The fault of numbers that are not finite, if that is what the error is. `what` stands before its words.
pub fn broken(error: &anyhow::Error, what: &str) -> Option<Fault> {
    // A fault says its way out with its words; that is told apart.
    let words = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<Fault>() {
        Some(fault) => fault.message.clone(),
        None => cause.to_string(),
    };
    let message = what.to_owned() + &error.chain().map(words).collect::<Vec<_>>().join(": ");
    for cause in error.chain() {
        if let Some(fault) = cause.downcast_ref::<Fault>().filter(|f| f.class == opdflow_api::FaultClass::NotFinite) {
            return Some(Fault { message, ..fault.clone() });
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

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_api::FaultClass;

    #[test]
    fn the_class_and_the_way_out_are_those_of_what_is_broken() {
        let of =
            |error: anyhow::Error| broken(&error.context("the adapter"), "candidate 2: ").map(|f| (f.message, f.help));
        let (message, help) = of(NotFinite::new("a weight").into()).unwrap();
        assert_eq!(message, "candidate 2: the adapter: a weight is not finite");
        assert!(help.unwrap().contains("learning rate"));
        let (message, help) = of(Fault::not_finite("the latent").help("do this").into()).unwrap();
        assert_eq!((message.as_str(), help.as_deref()), ("candidate 2: the adapter: the latent", Some("do this")));
        let (file, tensor) = ("w".to_owned(), "t".to_owned());
        let read = WeightsError::NotFinite { file, tensor, found: f64::NAN, place: vec![1] };
        assert!(of(read.into()).unwrap().1.unwrap().contains("download or export it again"));
        assert!(of(Fault::user("a typing mistake").into()).is_none());
        assert_eq!(unfit(&anyhow::anyhow!("anything else")).class, FaultClass::User);
    }
}
