//! The variables that say how many GPUs and how much memory there are, and which kernels: a value that would be ignored is refused.

use super::Failure;
use crate::recipe::size;

/// A variable, whether it may have this value, and what is expected of it.
type Variable = (&'static str, fn(&str) -> bool, &'static str);

const VARIABLES: [Variable; 4] = [
    ("OPDFLOW_GPUS", |text| text.parse::<usize>().is_ok(), "the number of GPUs, such as `2`, or `0` for none"),
    ("OPDFLOW_GPU_MEMORY", |text| size(text).is_some(), "the memory of each GPU, such as `80G`"),
    ("OPDFLOW_MEMORY", |text| size(text).is_some(), "the memory of the machine, such as `24G`"),
    (
        "OPDFLOW_MKL",
        |text| ["own", "processor"].contains(&text),
        "`own` (MKL's own choice of kernels) or `processor` (as without it)",
    ),
];

/// That these variables can be read, those that are set.
///
/// # Errors
/// One cannot.
pub(super) fn check(of: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    for (name, fits, expected) in VARIABLES {
        if let Some(found) = of(name).filter(|text| !fits(text.trim())) {
            return Err(Failure::Usage(format!("{name} is `{found}`; expected {expected}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_nobody_would_read_is_refused_by_name() {
        let with =
            |name: &'static str, value: &'static str| check(move |asked| (asked == name).then(|| value.to_owned()));
        for (name, good, wrong) in [
            ("OPDFLOW_GPUS", ["0", " 8 "], ["two", "-1"]),
            ("OPDFLOW_GPU_MEMORY", ["85899345920", "80G"], ["much", "-80G"]),
            ("OPDFLOW_MEMORY", ["24G", "500m"], ["", "24 gallons"]),
            ("OPDFLOW_MKL", ["own", "processor"], ["Own", "avx2"]),
        ] {
            for value in good {
                assert!(with(name, value).is_ok(), "{name}={value}");
            }
            for value in wrong {
                let said = with(name, value).unwrap_err().words();
                assert!(said.starts_with(&format!("{name} is `{value}`; expected ")), "{said}");
            }
        }
        assert!(check(|_| None).is_ok());
    }
}
